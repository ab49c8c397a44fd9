"""What comes of a consumer: its result, and what collectors and writers give.

Owns frozen values only.  Must not know how a consumer is run, nor an event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from procflow.events import Gap

if TYPE_CHECKING:
    from pathlib import Path

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedLines:
    """What a collector of lines kept.

    Attributes:
        head: The first lines, in order, with a ``Gap`` where bytes were lost.
        tail: The newest lines after those; what was dropped stood between ``head`` and ``tail``.
        dropped_lines: How many lines the bound cost.
        dropped_bytes: Their text, in bytes of UTF-8.
        lost_bytes: Bytes that never reached the collector: of gaps, and of lines that were truncated.
        cut_lines: How many of all lines were a ``CutLine``.
    """

    head: tuple[str | Gap, ...] = ()
    tail: tuple[str | Gap, ...] = ()
    dropped_lines: int = 0
    dropped_bytes: int = 0
    lost_bytes: int = 0
    cut_lines: int = 0

    @property
    def lines(self) -> list[str]:
        """The lines that were kept, without the gaps."""
        return [item for item in (*self.head, *self.tail) if not isinstance(item, Gap)]

    @property
    def truncated(self) -> bool:
        """Whether anything is missing, for whatever reason."""
        return self.dropped_lines > 0 or self.lost_bytes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writer did.

    Attributes:
        bytes_written: Bytes of the stream that the sink has taken.
        failed_bytes: Bytes that the sink was given and that are not known to be written.
        failures: How often the sink failed.
        files: For a path, the files of this run that exist now, the newest first.
    """

    bytes_written: int = 0
    failed_bytes: int = 0
    failures: int = 0
    files: tuple[Path, ...] = ()


class ConsumerEnding(Enum):
    """How a consumer ended."""

    EOF = "eof"
    """The source ended, and the consumer took everything."""

    STOPPED = "stopped"
    """It ended itself: a callback said ``STOP``, or the line was found."""

    CLOSED = "closed"
    """The stream was closed from our side before its source ended; what was read before was taken."""

    CANCELLED = "cancelled"
    """``cancel()`` ended it between two items."""

    ABORTED = "aborted"
    """It was ended in the middle of whatever it did; an item that it had been given may be half done."""

    CUT = "cut"
    """Its scope was left, and it did not take what the stream still held within ``finish_s``; otherwise as ``ABORTED``."""

    FAILED = "failed"
    """A callback, the sink, or reading the stream failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed(Generic[T_co]):
    """The result of a consumer, however it ended.

    ``delivered_bytes + lost_bytes == stop - start``, to the byte.

    Attributes:
        name: The consumer.
        value: What the kind of consumer gives; of what it was given up to its end.
        ending: How it ended.
        start: Offset of the first byte that was meant for it.
        stop: Offset after the last byte that it was given or told to be lost.
        lost_bytes: How many bytes its gaps have announced.
        gaps: How many gaps that were.
        error: What made it fail, or ``None``.
    """

    name: str
    value: T_co
    ending: ConsumerEnding
    start: int
    stop: int
    lost_bytes: int = 0
    gaps: int = 0
    error: Exception | None = None

    @property
    def delivered_bytes(self) -> int:
        """How many bytes it was given."""
        return self.stop - self.start - self.lost_bytes

    @property
    def is_complete(self) -> bool:
        """Whether it was given every byte from its start to the end of the source."""
        return self.ending is ConsumerEnding.EOF and self.lost_bytes == 0
