"""Child processes for async Python: bounded streams with any number of subscribers, every loss counted, no process left.

Start one with ``spawn()`` or run it to its end with ``run()``.  Importing this package changes nothing in the process.
"""

from __future__ import annotations

from procflow import ready
from procflow._containment.port import Containment
from procflow._process.pipelines.stage import Stage
from procflow._process.process import Process
from procflow._process.run import run
from procflow._process.scope import spawn
from procflow._process.state import ProcessState
from procflow._process.stdio.plans import INHERIT, NULL, PIPE, OutputChoice, StdinChoice, Stdio
from procflow._process.stdio.stdin import ChildStdin
from procflow._streams.consumers.consumer import Consumer
from procflow._streams.consumers.kinds import (
    STOP,
    Collect,
    CollectLines,
    ConsumerKind,
    Fold,
    Inspect,
    Rotation,
    SinkFailure,
    WaitFor,
    Write,
)
from procflow._streams.consumers.results import CapturedLines, Consumed, ConsumerEnding, Written
from procflow._streams.lines.readers import LineBatchReader, LineReader
from procflow._streams.reading.source import ByteSource, FdSource
from procflow._streams.stream import OutputStream, open_stream
from procflow._streams.subscription import Subscription
from procflow._streams.timeline.readers import TimelineLines, TimelineSubscription
from procflow._streams.timeline.timeline import Timeline
from procflow._supervision.lineup import MapOrder
from procflow._supervision.map_run import MapResults, OnError, RunOptions, map_run
from procflow._supervision.repeatable import RepeatableStdin
from procflow._supervision.restart import Restart, RestartWhen
from procflow._supervision.service import Service, ServiceOptions, supervise
from procflow._supervision.service_stream import ServiceReader, ServiceStream
from procflow._supervision.values import MapResult, Restarted, ServiceRun, ServiceState
from procflow.command import Command, Pipeline, shell
from procflow.errors import (
    ChildError,
    ClosedError,
    ConsumerError,
    DescriptorLimitError,
    EndedError,
    ExitError,
    HistoryLostError,
    InputError,
    JsonLineError,
    LinesLostError,
    LineTooLongError,
    NotReadyError,
    PlatformError,
    ProcflowError,
    ServiceFailed,
    SpawnError,
    SpillError,
    StallError,
    StreamClosedError,
    StreamReadError,
    TerminationError,
    TimedOut,
    UsageError,
)
from procflow.events import (
    Chunk,
    Cut,
    CutLine,
    Gap,
    LineMatch,
    OutputName,
    StreamEnding,
    StreamStatistics,
    SubscriberStatistics,
    Tagged,
    UndecodedLine,
)
from procflow.outcome import Captured, Completed, EndedBy, Outcome, PhaseReport, ResourceUsage
from procflow.policies import (
    BestEffort,
    Delivery,
    LineConfig,
    Loss,
    OnStall,
    Overflow,
    Phase,
    Pty,
    Reliable,
    Replay,
    Shutdown,
    StreamConfig,
    Target,
)
from procflow.redaction import Redaction

__all__ = (
    "INHERIT",
    "NULL",
    "PIPE",
    "STOP",
    "BestEffort",
    "ByteSource",
    "Captured",
    "CapturedLines",
    "ChildError",
    "ChildStdin",
    "Chunk",
    "ClosedError",
    "Collect",
    "CollectLines",
    "Command",
    "Completed",
    "Consumed",
    "Consumer",
    "ConsumerEnding",
    "ConsumerError",
    "ConsumerKind",
    "Containment",
    "Cut",
    "CutLine",
    "Delivery",
    "DescriptorLimitError",
    "EndedBy",
    "EndedError",
    "ExitError",
    "FdSource",
    "Fold",
    "Gap",
    "HistoryLostError",
    "InputError",
    "Inspect",
    "JsonLineError",
    "LineBatchReader",
    "LineConfig",
    "LineMatch",
    "LineReader",
    "LineTooLongError",
    "LinesLostError",
    "Loss",
    "MapOrder",
    "MapResult",
    "MapResults",
    "NotReadyError",
    "OnError",
    "OnStall",
    "Outcome",
    "OutputChoice",
    "OutputName",
    "OutputStream",
    "Overflow",
    "Phase",
    "PhaseReport",
    "Pipeline",
    "PlatformError",
    "Process",
    "ProcessState",
    "ProcflowError",
    "Pty",
    "Redaction",
    "Reliable",
    "RepeatableStdin",
    "Replay",
    "ResourceUsage",
    "Restart",
    "RestartWhen",
    "Restarted",
    "Rotation",
    "RunOptions",
    "Service",
    "ServiceFailed",
    "ServiceOptions",
    "ServiceReader",
    "ServiceRun",
    "ServiceState",
    "ServiceStream",
    "Shutdown",
    "SinkFailure",
    "SpawnError",
    "SpillError",
    "Stage",
    "StallError",
    "StdinChoice",
    "Stdio",
    "StreamClosedError",
    "StreamConfig",
    "StreamEnding",
    "StreamReadError",
    "StreamStatistics",
    "SubscriberStatistics",
    "Subscription",
    "Tagged",
    "Target",
    "TerminationError",
    "TimedOut",
    "Timeline",
    "TimelineLines",
    "TimelineSubscription",
    "UndecodedLine",
    "UsageError",
    "WaitFor",
    "Write",
    "Written",
    "map_run",
    "open_stream",
    "ready",
    "run",
    "shell",
    "spawn",
    "supervise",
)
