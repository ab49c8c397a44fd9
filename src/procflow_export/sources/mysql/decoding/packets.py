"""The packets of a result, after its column definitions: where rows end, and how a result ends.

Owns the framing of both row forms, text and binary.  Pure: bytes in, values out.  Protocol:
<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from procflow_export.sources.mysql.decoding.walk import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    Octets,
    Positions,
    find_packets,
)

EOF_MARK: Final = 0xFE
ERROR_MARK: Final = 0xFF
EOF_MAX_BYTES: Final = 9
MORE_RESULTS: Final = 0x0008

FRONT_BYTES: Final = 32
"""Bytes of no meaning before the rows of a block, for who reads a few bytes back from the end of a value."""
BACK_BYTES: Final = 32
"""The same after them."""

_FRONT: Final = bytes(FRONT_BYTES)
_BACK: Final = bytes(BACK_BYTES)
_EOF_PACKET_BYTES: Final = HEADER_BYTES + 5


class FramingError(Exception):
    """The bytes are not the packets of a result."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What the beginning of a buffer holds.

    Attributes:
        row_bytes: How many bytes are whole rows.
        row_count: How many rows these are.
        last_start: Where the last of them begins, at its header; 0 if there is none.
        row_starts: Where each of them begins; ``None`` if a row has several packets.
        needed_bytes: How many bytes there must be for another look to find more.
        next_sequence: The number that the packet after these rows must have.
        ending: The payload of the EOF or error packet, if it follows these rows.
    """

    row_bytes: int
    row_count: int
    last_start: int
    row_starts: Positions | None
    needed_bytes: int
    next_sequence: int
    ending: bytes | None


def scan(data: Octets, size: int, sequence: int) -> Scan:
    """Return what ``data[:size]`` holds; it begins with a row or with what ends the result.

    Rows are told from what ends a result by their first byte, which they never share with it.

    Args:
        data: With at least ``SLACK_BYTES`` more bytes.
        size: How many bytes were received.
        sequence: The number that the first packet must have.

    Raises:
        FramingError: If a packet is out of order, or bytes follow the result's end.
    """
    starts, headers, stop = find_packets(data, size)
    count = len(starts)
    needed_bytes = stop + HEADER_BYTES
    if needed_bytes <= size:
        needed_bytes += int.from_bytes(data[stop : stop + 3].tobytes(), "little")
    if not count:
        return Scan(0, 0, 0, starts, needed_bytes, sequence, None)
    due = np.arange(sequence, sequence + count).astype(np.uint8)
    wrong = np.flatnonzero((headers >> np.uint32(24)) != due)
    if len(wrong):
        at = wrong[0]
        raise FramingError(f"packet {headers[at] >> np.uint32(24)} came where {due[at]} was due")
    lengths = headers & np.uint32(MAX_PAYLOAD)
    resume = lengths == MAX_PAYLOAD
    is_plain = not resume.any()

    ending = None
    for at in np.flatnonzero(data[starts + HEADER_BYTES] >= EOF_MARK):
        if is_ending(int(data[starts[at] + HEADER_BYTES]), int(lengths[at])) and not (at and resume[at - 1]):
            if at + 1 < count or stop < size:
                raise FramingError("bytes after the end of a result")
            ending = data[starts[at] + HEADER_BYTES : stop].tobytes()
            count -= 1
            stop = int(starts[at])
    while count and resume[count - 1]:
        count -= 1
        stop = int(starts[count])
    firsts = starts[:count] if is_plain else starts[:count][np.append(True, ~resume)[:count]]
    return Scan(
        row_bytes=stop,
        row_count=len(firsts),
        last_start=int(firsts[-1]) if len(firsts) else 0,
        row_starts=firsts if is_plain else None,
        needed_bytes=needed_bytes,
        next_sequence=(sequence + count) & 0xFF,
        ending=ending,
    )


def is_ending(mark: int, length: int) -> bool:
    """Return whether a packet that begins with ``mark`` ends the result: no row begins like that."""
    return length > 0 and (mark == ERROR_MARK or (mark == EOF_MARK and length < EOF_MAX_BYTES))


def may_have_ended(data: bytearray, size: int) -> bool:
    """Return whether ``data[:size]`` looks as if the last packet of a result, without an error, were its end.

    True for every result that ended well; now and then for others.
    """
    at = size - _EOF_PACKET_BYTES
    return at >= 0 and data[at + HEADER_BYTES] == EOF_MARK and data[at : at + 3] == b"\x05\0\0"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of a block.

    Attributes:
        data: Their bytes, with ``FRONT_BYTES`` before and ``BACK_BYTES`` after them.
        starts: Where the payload of each row begins.
        ends: Where it ends.
    """

    data: bytes
    starts: Positions
    ends: Positions


def rows_of(block: bytes, row_starts: Positions | None = None) -> Rows:
    """Return the rows of a block of whole rows.

    Args:
        block: Packets, headers included.
        row_starts: As ``scan()`` found them.

    Raises:
        FramingError: If the block does not end with a row.
    """
    data = b"".join((_FRONT, block, _BACK))
    if row_starts is None:
        row_starts, headers, end = find_packets(np.frombuffer(data, np.uint8)[FRONT_BYTES:], len(block))
        if end != len(block):
            raise FramingError("a block ends inside a packet")
        if (headers & np.uint32(MAX_PAYLOAD) == MAX_PAYLOAD).any():
            del data
            return _joined(block, row_starts)
    starts = row_starts + (FRONT_BYTES + HEADER_BYTES)
    ends = np.empty_like(starts)
    if len(ends):
        ends[:-1] = starts[1:]
        ends[:-1] -= HEADER_BYTES
        ends[-1] = FRONT_BYTES + len(block)
    return Rows(data, starts, ends)


def _joined(block: bytes, packets: Positions) -> Rows:
    """Return the rows of a block in which a row has several packets: their payloads are put together."""
    parts: list[bytes | memoryview] = [_FRONT]
    starts: list[int] = []
    ends: list[int] = []
    size, is_continued = FRONT_BYTES, False
    view = memoryview(block)
    for packet in packets.tolist():
        length = int.from_bytes(view[packet : packet + 3], "little")
        begin = packet + HEADER_BYTES
        parts.append(view[begin : begin + length])
        if not is_continued:
            starts.append(size)
        size += length
        is_continued = length == MAX_PAYLOAD
        if not is_continued:
            ends.append(size)
    if is_continued:
        raise FramingError("a block ends inside a row")
    parts.append(_BACK)
    return Rows(b"".join(parts), np.array(starts, np.int64), np.array(ends, np.int64))


class RowIndex:
    """Where the rows begin in the bytes that one side scanned and another decodes: nothing is searched twice.

    The bytes go another way, in order and each once; one thread may note while another takes.
    """

    def __init__(self) -> None:
        self._pieces: deque[Scan] = deque()

    def note(self, piece: Scan) -> None:
        """Keep what was found in the bytes that are handed on next."""
        if piece.row_bytes:
            self._pieces.append(piece)

    def take(self, size: int) -> Positions | None:
        """Return where the rows of the next ``size`` bytes begin; ``None`` if that must be searched.

        Raises:
            FramingError: If that many bytes are not what was scanned in a number of pieces.
        """
        found: list[Positions | None] = []
        done = 0
        while done < size and self._pieces:
            piece = self._pieces.popleft()
            starts = piece.row_starts
            found.append(starts + done if done and starts is not None else starts)
            done += piece.row_bytes
        if done != size:
            raise FramingError("a block ends where no piece of the result did")
        whole = [starts for starts in found if starts is not None]
        if len(whole) < len(found):
            return None
        return whole[0] if len(whole) == 1 else np.concatenate([*whole, np.empty(0, np.int64)])
