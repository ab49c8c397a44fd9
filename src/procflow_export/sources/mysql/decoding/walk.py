"""Where the packets of a buffer begin, found many at a time.

Owns the walk from packet to packet.  Must not know what packets hold.

A packet begins where the one before it ends, so an obvious walk takes a Python step for each.  Here many *walkers*,
spread over the buffer, go in lockstep, one numpy step for all of them.  A walker begins at a guess: a place from which four
headers follow each other with consecutive sequence numbers.  What the walkers found is then proved: beginning with the first
packet, which is known, every packet must end where the next one was found.  Where that does not hold (a value looks like
packets), the obvious walk does the work: the result is always exact.

Rejected: candidates by a pattern over every byte of the buffer, which costs more than all walkers together and still needs
the chain to be followed.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

Octets: TypeAlias = npt.NDArray[np.uint8]
Positions: TypeAlias = npt.NDArray[np.int64]

MAX_PAYLOAD: Final = 0xFFFFFF
HEADER_BYTES: Final = 4
SLACK_BYTES: Final = 8
"""How many bytes of any content must follow the packets."""

_SAMPLE: Final = 64
_MAX_STEP_BYTES: Final = 1024
"""Packets longer than this on average are walked: what a byte costs anyway is more than the steps."""
_WALKERS_PER_ROOT: Final = 3.0
_MAX_WALKERS: Final = 1024
_MAX_UNEVENNESS: Final = 8
"""So many times the usual steps are enough; then the first packets were not like the others, and hardly a walker has begun."""
_CHAINED: Final = 4
_LONGER: Final = 4
"""A walker does not begin with a packet this many times longer than the longest of the first ones."""

_header = Struct("<I").unpack_from


class Packets(NamedTuple):
    """The packets that lie in a buffer as a whole, in order; the first begins at 0."""

    starts: Positions
    """Where each begins, at its header."""
    headers: npt.NDArray[np.uint32]
    """The length of each one's payload and, above it, its sequence number."""
    end: int
    """Where the last one ends."""


def find_packets(data: Octets, size: int) -> Packets:
    """Return the packets in ``data[:size]``, which begins with one and is followed by ``SLACK_BYTES`` of any content."""
    words = np.ndarray((len(data) - HEADER_BYTES + 1,), "<u4", data, strides=(1,))
    sample, end = _walk(data, 0, size, _SAMPLE)
    if len(sample) == _SAMPLE and end <= _SAMPLE * _MAX_STEP_BYTES:
        found = _at_even_distance(data, words, size, end // _SAMPLE) or _in_lockstep(data, words, size, sample)
        if found is not None:
            return found
    rest, end = _walk(data, end, size, size)
    starts = np.array(sample + rest, np.int64)
    return Packets(starts, words[starts], end)


def _walk(data: Octets, position: int, size: int, max_count: int) -> tuple[list[int], int]:
    starts: list[int] = []
    view = data.data
    while position + HEADER_BYTES <= size and len(starts) < max_count:
        end = position + HEADER_BYTES + (_header(view, position)[0] & MAX_PAYLOAD)
        if end > size:
            break
        starts.append(position)
        position = end
    return starts, position


def _at_even_distance(data: Octets, words: npt.NDArray[np.uint32], size: int, distance: int) -> Packets | None:
    """Return the packets if all of them have the same length, save for shorter ones at the end."""
    headers = words[: size - distance + 1 : distance]
    if not (headers & np.uint32(MAX_PAYLOAD) == distance - HEADER_BYTES).all():
        return None
    end = len(headers) * distance
    starts = np.arange(0, end, distance)
    shorter, end = _walk(data, end, size, size)
    if shorter:
        starts = np.append(starts, shorter)
        headers = words[starts]
    return Packets(starts, headers, end)


def _in_lockstep(data: Octets, words: npt.NDArray[np.uint32], size: int, sample: list[int]) -> Packets | None:
    """Return the packets, or ``None`` if the walkers did not find them."""
    distances = np.diff(sample)
    walkers = int(min(_MAX_WALKERS, _WALKERS_PER_ROOT * (size / distances.mean()) ** 0.5))
    firsts = _walker_starts(data, words, size, np.array(sample), walkers)
    stops = np.append(firsts[1:], size - HEADER_BYTES + 1)
    # So many steps takes a walker with the mean number of packets; there is no need to ask before.
    usual = int(size / (distances.mean() * walkers))
    position = firsts
    steps: list[Positions] = []
    seen: list[npt.NDArray[np.uint32]] = []
    while len(steps) < usual or (position < stops).any():
        if len(steps) > _MAX_UNEVENNESS * usual:
            return None
        header = words[position]
        steps.append(position)
        seen.append(header)
        position = position + (header & np.uint32(MAX_PAYLOAD))
        position += HEADER_BYTES
        # A walker that has arrived waits there.
        np.minimum(position, stops, out=position)
    by_walker = np.stack(steps, axis=1)
    is_packet = by_walker < stops[:, None]
    starts, headers = by_walker[is_packet], np.stack(seen, axis=1)[is_packet]
    ends = starts + (headers & np.uint32(MAX_PAYLOAD))
    ends += HEADER_BYTES
    if ends[-1] > size:
        starts, headers, ends = starts[:-1], headers[:-1], ends[:-1]
    return Packets(starts, headers, int(ends[-1])) if np.array_equal(ends[:-1], starts[1:]) else None


def _walker_starts(
    data: Octets, words: npt.NDArray[np.uint32], size: int, sample: Positions, walkers: int
) -> Positions:
    """Return 0 and, for most walkers, a place that looks like the beginning of a packet; ascending.

    Args:
        data: The buffer.
        words: The four bytes from each place on.
        size: How much of the buffer counts.
        sample: Where its first packets begin.
        walkers: How many there are to be.
    """
    longest = int(np.diff(sample).max())
    share_bytes = size // walkers
    window = min(longest + _SAMPLE, share_bytes)
    max_length = _LONGER * longest
    marks = data[sample + HEADER_BYTES]

    def octet(offset: int) -> Octets:
        return as_strided(data[share_bytes + offset :], (walkers - 1, window), (share_bytes, 1))

    # Cheap tests first.  Lengths are far below 64 KiB here, so the third octet of a header is 0; and all rows of a prepared
    # statement begin with the same octet.
    may_be = octet(2) == 0
    may_be &= octet(1) <= max_length >> 8
    if (marks == marks[0]).all():
        may_be &= octet(HEADER_BYTES) == marks[0]
    places = np.flatnonzero(may_be)
    walker = places // window
    start = places + (walker * (share_bytes - window) + share_bytes)
    position, due = start, None
    for _ in range(_CHAINED):
        header = words[position]
        following = position + HEADER_BYTES + (header & np.uint32(MAX_PAYLOAD))
        sequence = (header >> np.uint32(24)).astype(np.uint8)
        keep = following < np.minimum(position + max_length, size - HEADER_BYTES)
        if due is not None:
            keep &= sequence == due
        walker, start, position, due = walker[keep], start[keep], following[keep], sequence[keep] + np.uint8(1)
    is_first = np.ones(len(walker), np.bool_)
    np.not_equal(walker[1:], walker[:-1], out=is_first[1:])
    # Two walkers may have run into each other's window.
    return np.unique(np.append(start[is_first], 0))
