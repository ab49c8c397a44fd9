"""Move database tables to Parquet and CSV files.

::

    async with Exporter("shop.yaml") as exporter:
        async for event in exporter.run():
            print(event)
"""

from __future__ import annotations

from procflow_export.config.loading import check_config, load_config, read_config
from procflow_export.config.structs import Config, ExportConfig, LoadedConfig, Mode
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.engines.port import Engine
from procflow_export.exporter import Exporter
from procflow_export.model.codes import Code, ExitStatus, Kind
from procflow_export.model.errors import (
    ConfigError,
    DataError,
    DestinationError,
    ExportError,
    Failure,
    Finding,
    MisuseError,
    PlanError,
    PlatformError,
    Severity,
    SourceError,
    WorkerError,
)
from procflow_export.model.events import (
    ChunkFinished,
    Finished,
    PartWritten,
    Progress,
    ProgressInit,
    Retry,
    RunEvent,
    RunFinished,
    RunStarted,
    Started,
    Status,
    Warned,
    run_codec,
)
from procflow_export.model.manifest import Manifest, ManifestSource, decode_manifest
from procflow_export.model.plan import PartRecord
from procflow_export.model.settings import (
    Compression,
    CsvOptions,
    DestinationConfig,
    DestinationType,
    Format,
    ParquetOptions,
    SourceConfig,
    SourceType,
    TlsConfig,
    TlsMode,
    Tuning,
    TuningProfile,
)
from procflow_export.pipeline.outbox import EventStream
from procflow_export.pipeline.policy import RetryPolicy, RunPolicy
from procflow_export.pipeline.scheduler import RunResult

__all__ = (
    "ChunkFinished",
    "Code",
    "Compression",
    "Config",
    "ConfigError",
    "CsvOptions",
    "DataError",
    "DestinationConfig",
    "DestinationError",
    "DestinationType",
    "Engine",
    "EventStream",
    "ExitStatus",
    "ExportConfig",
    "ExportError",
    "Exporter",
    "Failure",
    "Finding",
    "Finished",
    "Format",
    "InProcessEngine",
    "Kind",
    "LoadedConfig",
    "Manifest",
    "ManifestSource",
    "MisuseError",
    "Mode",
    "ParquetOptions",
    "PartRecord",
    "PartWritten",
    "PlanError",
    "PlatformError",
    "Progress",
    "ProgressInit",
    "Retry",
    "RetryPolicy",
    "RunEvent",
    "RunFinished",
    "RunPolicy",
    "RunResult",
    "RunStarted",
    "Severity",
    "SourceConfig",
    "SourceError",
    "SourceType",
    "Started",
    "Status",
    "TlsConfig",
    "TlsMode",
    "Tuning",
    "TuningProfile",
    "Warned",
    "WorkerError",
    "check_config",
    "decode_manifest",
    "load_config",
    "read_config",
    "run_codec",
)
