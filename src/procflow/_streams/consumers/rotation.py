"""Where a full file ends and the next one begins, and what the files are called.

Pure decisions; ``BlockingFile`` carries them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from procflow._streams.consumers.kinds import Rotation

LINE_BYTES: Final = 1024 * 1024
"""The longest beginning of a line that moves to the next file with the rest of it."""


@dataclass(slots=True)
class FilePlace:
    """How far the current file is filled, and where its unfinished line begins."""

    filled_bytes: int = 0
    line_start: int = 0

    def advance(self, data: bytes | memoryview, end_of_last_line: int) -> None:
        """Note that ``data`` was written; ``end_of_last_line`` is the offset in it after its last LF, or 0."""
        if end_of_last_line:
            self.line_start = self.filled_bytes + end_of_last_line
        self.filled_bytes += len(data)

    @property
    def unfinished_bytes(self) -> int:
        """How much of an unfinished line the file ends with."""
        return self.filled_bytes - self.line_start


def next_piece(data: bytes, position: int, place: FilePlace, rotation: Rotation) -> tuple[int, int | None]:
    """Return how many bytes of ``data`` from ``position`` on belong in this file, and what follows them.

    That is ``None`` if the file is not full, or the length of the unfinished line that moves on to the next file, mostly 0.
    """
    room = rotation.max_bytes - place.filled_bytes
    left = len(data) - position
    if left <= room:
        return left, None
    whole = data.rfind(b"\n", position, position + max(room, 0)) + 1 - position
    if whole > 0:
        return whole, 0
    # No line ends within the room: the line under way goes to the next file as a whole, unless it fills this one or is huge.
    if place.line_start > 0 and place.unfinished_bytes <= LINE_BYTES:
        return 0, place.unfinished_bytes
    return max(room, 0), 0


def older_names(name: str, rotation: Rotation) -> Iterator[tuple[str, str]]:
    """Yield the renames that free ``name``, in the order in which they must happen; the oldest file is overwritten."""
    names = [name, *(f"{name}.{number}" for number in range(1, rotation.max_files))]
    yield from zip(reversed(names[:-1]), reversed(names[1:]), strict=True)
