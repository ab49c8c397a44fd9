"""Child processes for async Python: bounded streams with any number of subscribers, every loss counted, no process left.

Start one with ``spawn()`` or run it to its end with ``run()``.  Importing this package changes nothing in the process.
"""

from __future__ import annotations

from procflow._containment.port import Containment
from procflow._process.process import Process
from procflow._process.run import run
from procflow._process.scope import spawn
from procflow._process.state import ProcessState
from procflow._process.stdin import ChildStdin
from procflow._process.stdio import INHERIT, NULL, PIPE, Stdio
from procflow._streams.lines import LineBatchReader, LineReader
from procflow._streams.source import ByteSource, FdSource
from procflow._streams.stream import OutputStream, open_stream
from procflow._streams.subscription import Subscription
from procflow.command import Command, Pipeline, shell
from procflow.errors import (
    ChildError,
    ClosedError,
    EndedError,
    ExitError,
    HistoryLostError,
    InputError,
    LinesLostError,
    LineTooLongError,
    NotReadyError,
    PlatformError,
    ProcflowError,
    SpawnError,
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
    StreamEnding,
    StreamStatistics,
    SubscriberStatistics,
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

__all__ = (
    "INHERIT",
    "NULL",
    "PIPE",
    "BestEffort",
    "ByteSource",
    "Captured",
    "ChildError",
    "ChildStdin",
    "Chunk",
    "ClosedError",
    "Command",
    "Completed",
    "Containment",
    "Cut",
    "CutLine",
    "Delivery",
    "EndedBy",
    "EndedError",
    "ExitError",
    "FdSource",
    "Gap",
    "HistoryLostError",
    "InputError",
    "LineBatchReader",
    "LineConfig",
    "LineMatch",
    "LineReader",
    "LineTooLongError",
    "LinesLostError",
    "Loss",
    "NotReadyError",
    "OnStall",
    "Outcome",
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
    "Reliable",
    "Replay",
    "ResourceUsage",
    "Shutdown",
    "SpawnError",
    "StallError",
    "Stdio",
    "StreamClosedError",
    "StreamConfig",
    "StreamEnding",
    "StreamReadError",
    "StreamStatistics",
    "SubscriberStatistics",
    "Subscription",
    "Target",
    "TerminationError",
    "TimedOut",
    "UsageError",
    "open_stream",
    "run",
    "shell",
    "spawn",
)
