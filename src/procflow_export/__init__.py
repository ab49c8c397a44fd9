"""Move database tables to Parquet and CSV files.

::

    async with Exporter("shop.yaml") as exporter:
        async for event in exporter.run():
            print(event)

Names are imported when they are first used: a program that only parses its command line, or a worker that needs one
driver, does not pay for all of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from procflow_export.checks.findings import CheckCode, CheckFinding
    from procflow_export.checks.validation import Validation, ValidationDepth
    from procflow_export.config.loading import check_config, load_config, read_config
    from procflow_export.config.structs import (
        ColumnConfig,
        Config,
        CursorMode,
        ExportConfig,
        LoadedConfig,
        Mode,
        Settle,
        TimeColumnType,
    )
    from procflow_export.engines.in_process import InProcessEngine
    from procflow_export.engines.port import Engine
    from procflow_export.engines.processes import ProcessEngine
    from procflow_export.exporter import Exporter
    from procflow_export.model.choices import OnInvalid
    from procflow_export.model.codes import Code, ExitStatus, Kind
    from procflow_export.model.destination import DestinationConfig, DestinationType, Verify
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
    from procflow_export.model.keys import KeyKind, KeyPart, KeyValue
    from procflow_export.model.manifest import CursorOwner, Manifest, ManifestSource, StoredCursor, decode_manifest
    from procflow_export.model.plan import PartRecord
    from procflow_export.model.reconciling import Verdict
    from procflow_export.model.settings import (
        Compression,
        Consistency,
        CsvOptions,
        Format,
        ParquetOptions,
        SourceConfig,
        SourceType,
        TlsConfig,
        TlsMode,
        Tuning,
        TuningProfile,
    )
    from procflow_export.pipeline.checking import validate
    from procflow_export.pipeline.outbox import EventStream
    from procflow_export.pipeline.policy import RetryPolicy, RunPolicy
    from procflow_export.pipeline.reconciling import ChunkReport, Reconciliation, reconcile
    from procflow_export.pipeline.recorded import read_run
    from procflow_export.pipeline.repairing import RepairPlan, plan_repairs
    from procflow_export.pipeline.verdicts import RunResult

__all__ = (
    "CheckCode",
    "CheckFinding",
    "ChunkFinished",
    "ChunkReport",
    "Code",
    "ColumnConfig",
    "Compression",
    "Config",
    "ConfigError",
    "Consistency",
    "CsvOptions",
    "CursorMode",
    "CursorOwner",
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
    "KeyKind",
    "KeyPart",
    "KeyValue",
    "Kind",
    "LoadedConfig",
    "Manifest",
    "ManifestSource",
    "MisuseError",
    "Mode",
    "OnInvalid",
    "ParquetOptions",
    "PartRecord",
    "PartWritten",
    "PlanError",
    "PlatformError",
    "ProcessEngine",
    "Progress",
    "ProgressInit",
    "Reconciliation",
    "RepairPlan",
    "Retry",
    "RetryPolicy",
    "RunEvent",
    "RunFinished",
    "RunPolicy",
    "RunResult",
    "RunStarted",
    "Settle",
    "Severity",
    "SourceConfig",
    "SourceError",
    "SourceType",
    "Started",
    "Status",
    "StoredCursor",
    "TimeColumnType",
    "TlsConfig",
    "TlsMode",
    "Tuning",
    "TuningProfile",
    "Validation",
    "ValidationDepth",
    "Verdict",
    "Verify",
    "Warned",
    "WorkerError",
    "check_config",
    "decode_manifest",
    "load_config",
    "plan_repairs",
    "read_config",
    "read_run",
    "reconcile",
    "run_codec",
    "validate",
)

_HOMES: Final = {
    "procflow_export.checks.findings": (
        "CheckCode",
        "CheckFinding",
    ),
    "procflow_export.checks.validation": (
        "Validation",
        "ValidationDepth",
    ),
    "procflow_export.config.loading": (
        "check_config",
        "load_config",
        "read_config",
    ),
    "procflow_export.config.structs": (
        "ColumnConfig",
        "Config",
        "CursorMode",
        "ExportConfig",
        "LoadedConfig",
        "Mode",
        "Settle",
        "TimeColumnType",
    ),
    "procflow_export.engines.in_process": ("InProcessEngine",),
    "procflow_export.engines.port": ("Engine",),
    "procflow_export.engines.processes": ("ProcessEngine",),
    "procflow_export.exporter": ("Exporter",),
    "procflow_export.model.choices": ("OnInvalid",),
    "procflow_export.model.codes": (
        "Code",
        "ExitStatus",
        "Kind",
    ),
    "procflow_export.model.errors": (
        "ConfigError",
        "DataError",
        "DestinationError",
        "ExportError",
        "Failure",
        "Finding",
        "MisuseError",
        "PlanError",
        "PlatformError",
        "Severity",
        "SourceError",
        "WorkerError",
    ),
    "procflow_export.model.events": (
        "ChunkFinished",
        "Finished",
        "PartWritten",
        "Progress",
        "ProgressInit",
        "Retry",
        "RunEvent",
        "RunFinished",
        "RunStarted",
        "Started",
        "Status",
        "Warned",
        "run_codec",
    ),
    "procflow_export.model.destination": (
        "DestinationConfig",
        "DestinationType",
        "Verify",
    ),
    "procflow_export.model.keys": (
        "KeyKind",
        "KeyPart",
        "KeyValue",
    ),
    "procflow_export.model.manifest": (
        "CursorOwner",
        "Manifest",
        "ManifestSource",
        "StoredCursor",
        "decode_manifest",
    ),
    "procflow_export.model.plan": ("PartRecord",),
    "procflow_export.model.settings": (
        "Compression",
        "Consistency",
        "CsvOptions",
        "Format",
        "ParquetOptions",
        "SourceConfig",
        "SourceType",
        "TlsConfig",
        "TlsMode",
        "Tuning",
        "TuningProfile",
    ),
    "procflow_export.model.reconciling": ("Verdict",),
    "procflow_export.pipeline.checking": ("validate",),
    "procflow_export.pipeline.outbox": ("EventStream",),
    "procflow_export.pipeline.policy": (
        "RetryPolicy",
        "RunPolicy",
    ),
    "procflow_export.pipeline.reconciling": (
        "ChunkReport",
        "Reconciliation",
        "reconcile",
    ),
    "procflow_export.pipeline.recorded": ("read_run",),
    "procflow_export.pipeline.repairing": (
        "RepairPlan",
        "plan_repairs",
    ),
    "procflow_export.pipeline.verdicts": ("RunResult",),
}
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
