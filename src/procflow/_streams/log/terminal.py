"""The one ending of a stream, and the error that tells a subscriber of it.

Owns the mapping between the two.  Must not know when a stream ends, nor an event loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from procflow.errors import StallError, StreamClosedError, StreamReadError
from procflow.events import StreamEnding


@dataclass(frozen=True, slots=True)
class Terminal:
    """How the stream ended, and the error behind it, if there is one."""

    ending: StreamEnding
    error: BaseException | None = None


def failure_of(stream_name: str, terminal: Terminal) -> Exception | None:
    """Return a new exception for an ending other than EOF; new, because a raised one collects tracebacks."""
    error = terminal.error
    match terminal.ending:
        case StreamEnding.EOF:
            return None
        case StreamEnding.READ_FAILED:
            failure = StreamReadError(stream_name=stream_name, reason=str(error) or type(error).__name__)
            failure.__cause__ = error
            return failure
        case StreamEnding.CLOSED if isinstance(error, StallError):
            return StallError(stream_name=stream_name, stall_timeout_s=error.stall_timeout_s)
        case StreamEnding.CLOSED:
            return StreamClosedError(stream_name=stream_name)
