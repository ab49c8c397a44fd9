"""The packets of a text result, after its column definitions.

Owns the framing: where rows end, how a result ends.  Pure: bytes in, bytes out.  Protocol:
<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

MAX_PAYLOAD: Final = 0xFFFFFF
"""A payload of this length goes on in the next packet."""
HEADER_BYTES: Final = 4
EOF_MARK: Final = 0xFE
ERROR_MARK: Final = 0xFF
EOF_MAX_BYTES: Final = 9
MORE_RESULTS: Final = 0x0008

_header = Struct("<I").unpack_from


class FramingError(Exception):
    """The bytes are not the packets of a result."""


class ResultScanner:
    """Finds the end of a result in bytes as they come, and lets only whole rows through.

    Rows are told from what ends a result by their first byte, which they never share with it.
    """

    def __init__(self, next_sequence: int) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._sequence = next_sequence
        self._is_continued = False
        self.ending: bytes | None = None
        """The payload of the EOF or error packet, once it was seen."""

    def feed(self, data: bytes) -> bytes:
        """Return the rows that are complete now, as they came, headers included.

        Raises:
            FramingError: If a packet is out of order, or bytes follow the result's end.
        """
        if self.ending is not None:
            raise FramingError("bytes after the end of a result")
        rest = self._rest
        rest += data
        size = len(rest)
        position = self._scanned
        row_end = 0
        sequence = self._sequence
        is_continued = self._is_continued
        # An ending is told by the byte after the header; a continuation may have none.
        while position + HEADER_BYTES < size or (is_continued and position + HEADER_BYTES == size):
            header = _header(rest, position)[0]
            length = header & MAX_PAYLOAD
            end = position + HEADER_BYTES + length
            if header >> 24 != sequence:
                raise FramingError(f"packet {header >> 24} came where {sequence} was due")
            if not is_continued and (mark := rest[position + HEADER_BYTES]) >= EOF_MARK and is_ending(mark, length):
                if end < size:
                    raise FramingError("bytes after the end of a result")
                if end == size:
                    self.ending = bytes(memoryview(rest)[position + HEADER_BYTES : end])
                break
            if end > size:
                break
            sequence = (sequence + 1) & 0xFF
            is_continued = length == MAX_PAYLOAD
            position = end
            if not is_continued:
                row_end = position
        self._sequence = sequence
        self._is_continued = is_continued
        self._scanned = position - row_end
        rows = bytes(memoryview(rest)[:row_end])
        if self.ending is None:
            del rest[:row_end]
        else:
            rest.clear()
        return rows


def is_ending(mark: int, length: int) -> bool:
    """Return whether a packet that begins with ``mark`` ends the result: no row begins like that."""
    return mark == ERROR_MARK or (mark == EOF_MARK and length < EOF_MAX_BYTES)


def split_rows(block: bytes) -> tuple[bytes, list[int], list[int]]:
    """Return a block of whole rows with the start and the end of each row's payload in it.

    Rows of several packets are put together, so the bytes that come back may be other ones.

    Raises:
        FramingError: If the block does not end with a row.
    """
    starts: list[int] = []
    ends: list[int] = []
    position, size = 0, len(block)
    while position < size:
        if position + HEADER_BYTES > size:
            raise FramingError("a block ends inside a packet header")
        length = _header(block, position)[0] & MAX_PAYLOAD
        if length == MAX_PAYLOAD:
            return split_rows_of_many_packets(block)
        position += HEADER_BYTES
        starts.append(position)
        position += length
        ends.append(position)
    if position != size:
        raise FramingError("a block ends inside a packet")
    return block, starts, ends


def split_rows_of_many_packets(block: bytes) -> tuple[bytes, list[int], list[int]]:
    """Do the work of ``split_rows()`` where a row may have several packets."""
    joined = bytearray()
    starts: list[int] = []
    ends: list[int] = []
    position, size = 0, len(block)
    is_continued = False
    while position < size:
        if position + HEADER_BYTES > size:
            raise FramingError("a block ends inside a packet header")
        length = _header(block, position)[0] & MAX_PAYLOAD
        position += HEADER_BYTES
        if not is_continued:
            starts.append(len(joined))
        joined += memoryview(block)[position : position + length]
        position += length
        is_continued = length == MAX_PAYLOAD
        if not is_continued:
            ends.append(len(joined))
    if position != size or is_continued:
        raise FramingError("a block ends inside a row")
    return bytes(joined), starts, ends
