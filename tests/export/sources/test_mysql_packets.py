"""The packets of MySQL's results, without a server."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procflow_export.sources.mysql.decoding.packets import FramingError, RowIndex, may_have_ended, rows_of, scan
from procflow_export.sources.mysql.decoding.walk import SLACK_BYTES, find_packets
from tests.export.sources.mysql_rows import LARGEST, packets, payloads_of

EOF = b"\xfe\x00\x00\x02\x00"
ERROR = b"\xff\x15\x04#28000Access denied"


def received(data: bytes, *, slack: int = 0xFE) -> np.ndarray:
    """Bytes as they lie in a receiver's buffer: what follows them is of no meaning."""
    return np.frombuffer(data + bytes([slack]) * SLACK_BYTES, np.uint8)


def starts_of(payloads: list[bytes]) -> list[int]:
    """Where packets begin, one for each payload."""
    starts, at = [], 0
    for payload in payloads:
        starts.append(at)
        at += 4 + len(payload)
    return starts


def payloads_like(chance: random.Random, count: int, most: int, flavour: int) -> list[bytes]:
    """Rows of random lengths; by ``flavour`` of zeros, of any bytes, of small bytes, or of what looks like packets."""
    if flavour == 3:
        lure = packets([bytes(3)] * 12, sequence=chance.randrange(256))
        return [lure[chance.randrange(9) :][: chance.randrange(1, most)] for _ in range(count)]
    ranges = [(0, 1), (0, 256), (0, 4)]
    return [bytes(chance.choices(range(*ranges[flavour]), k=chance.randrange(1, most))) for _ in range(count)]


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 1500),
    most=st.sampled_from([2, 3, 20, 90, 300]),
    flavour=st.integers(0, 3),
    sequence=st.integers(0, 255),
    cut=st.integers(0, 400),
)
@example(seed=0, count=5000, most=90, flavour=3, sequence=250, cut=3)
@example(seed=1, count=5000, most=3, flavour=0, sequence=0, cut=0)
@example(seed=2, count=20_000, most=40, flavour=2, sequence=9, cut=11)
def test_packets_are_found_where_they_are(
    seed: int, count: int, most: int, flavour: int, sequence: int, cut: int
) -> None:
    """E-23: the packets of a buffer are those of the obvious walk, whatever their contents look like, also where a cut tears one."""
    payloads = payloads_like(random.Random(seed), count, most, flavour)
    whole = packets(payloads, sequence=sequence)
    size = max(len(whole) - cut, 0)
    expected = [at for at, payload in zip(starts_of(payloads), payloads, strict=True) if at + 4 + len(payload) <= size]

    found = find_packets(received(whole[:size]), size)

    assert found.starts.tolist() == expected
    assert found.end == (expected[-1] + 4 + len(payloads[len(expected) - 1]) if expected else 0)
    assert [header & LARGEST for header in found.headers.tolist()] == [len(p) for p in payloads[: len(expected)]]
    assert [header >> 24 for header in found.headers.tolist()] == [(sequence + n) % 256 for n in range(len(expected))]


@pytest.mark.parametrize("length", [1, 14, 300])
@pytest.mark.parametrize("count", [63, 64, 65, 5000])
@pytest.mark.parametrize("ending", [EOF, b"", bytes(7)])
def test_what_follows_packets_of_one_length_is_found(length: int, count: int, ending: bytes) -> None:
    """E-23: the end of a result is seen also after rows of one length, the shortcut for which must not hide it."""
    payloads = [bytes(length)] * count + [ending] * bool(ending)
    whole = packets(payloads, sequence=3)

    found = find_packets(received(whole), len(whole))

    assert found.starts.tolist() == starts_of(payloads)
    assert found.end == len(whole)


FIRST = st.integers(0, 253)
ROW = st.builds(lambda first, rest: bytes([first]) + rest, FIRST, st.binary(max_size=60)) | st.sampled_from(
    [b"\xfe" + EOF * 3, b"\x05" + packets([EOF]) * 3, b"\xfd" + bytes(300)]
)


@given(
    rows=st.lists(ROW, max_size=200),
    ending=st.sampled_from([EOF, ERROR]),
    sequence=st.integers(0, 255),
    data=st.data(),
)
def test_whole_rows_and_the_end_are_seen_however_bytes_come(
    rows: list[bytes], ending: bytes, sequence: int, data: st.DataObject
) -> None:
    """E-23: rows come out whole and in order, wherever the bytes were cut, and the end is not taken for a row."""
    wire = packets([*rows, ending], sequence=sequence)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    buffer, out, seen = b"", [], None

    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        buffer += wire[start:stop]
        found = scan(received(buffer), len(buffer), sequence)
        piece, buffer = buffer[: found.row_bytes], buffer[found.row_bytes :]
        new = list(payloads_of(piece))
        assert found.row_starts is not None
        assert found.row_starts.tolist() == starts_of(new)
        assert found.row_count == len(new)
        assert found.last_start == (starts_of(new)[-1] if new else 0)
        out += new
        sequence = found.next_sequence
        if found.ending is not None:
            assert stop == len(wire)
            seen = found.ending

    assert out == rows
    assert seen == ending


@given(rows=st.lists(ROW, max_size=100), extra=st.binary(min_size=1, max_size=40))
def test_nothing_follows_the_end(rows: list[bytes], extra: bytes) -> None:
    """E-23: bytes after the end of a result are an error."""
    wire = packets([*rows, EOF]) + extra

    with pytest.raises(FramingError):
        scan(received(wire), len(wire), 5)


@given(rows=st.lists(ROW, min_size=2, max_size=300), data=st.data())
def test_packets_out_of_order_are_refused(rows: list[bytes], data: st.DataObject) -> None:
    """E-23: a lost packet is noticed."""
    lost = data.draw(st.integers(0, len(rows) - 2))
    wire = packets(rows[:lost]) + packets(rows[lost + 1 :], sequence=5 + lost + 1)

    with pytest.raises(FramingError):
        scan(received(wire), len(wire), 5)


def test_a_result_that_ended_well_looks_like_it() -> None:
    """E-23: a reader that waits for more sees from the last bytes that no more will come."""
    for rows in ([], [b"\0abc"], [b"\0" * 40] * 300):
        wire = bytearray(packets([*rows, EOF], sequence=77))
        assert may_have_ended(wire, len(wire))
        assert not may_have_ended(wire, len(wire) - 1)


@pytest.mark.parametrize("size", [LARGEST - 1, LARGEST, LARGEST + 1, 2 * LARGEST, 2 * LARGEST + 3])
def test_rows_of_several_packets_are_put_together(size: int) -> None:
    """E-23: a payload of exactly the largest packet goes on in the next one, which may be empty, whatever it begins with."""
    rows = [b"\0first", b"\x01" + EOF * (size // 5 - 1) + b"!" * (size - 5 * (size // 5) + 4), b"\0last"]
    assert len(rows[1]) == size
    wire = packets([*rows, EOF])
    found = scan(received(wire), len(wire), 5)
    torn = scan(received(wire[:-20]), len(wire) - 20, 5)

    block = wire[: found.row_bytes]
    parts = rows_of(block, found.row_starts)

    assert (found.row_starts is None) == (size >= LARGEST)
    assert found.ending == EOF
    assert torn.ending is None
    assert torn.row_bytes == 10
    assert (found.row_count, torn.row_count) == (3, 1)
    assert block[found.last_start :].endswith(rows[2])
    assert len(block) - found.last_start == 4 + len(rows[2])
    assert [parts.data[start:end] for start, end in zip(parts.starts, parts.ends, strict=True)] == rows


@pytest.mark.parametrize("size", [LARGEST, 2 * LARGEST + 3])
def test_the_last_row_is_found_where_it_has_several_packets(size: int) -> None:
    """E-5: where a row begins at which a reader goes on, however long it is."""
    wire = packets([b"\0first", bytes(size), EOF])

    found = scan(received(wire), len(wire), 5)

    assert (found.row_count, found.last_start) == (2, 10)


@pytest.mark.parametrize("missing", [1, 4, 5, 100])
def test_a_block_that_ends_inside_a_row_is_an_error(missing: int) -> None:
    """E-23: half a row is never taken for one."""
    for rows in ([b"\0" * 30] * 100, [b"\0" * (LARGEST + 1)]):
        block = packets(rows)[:-missing]
        with pytest.raises(FramingError):
            rows_of(block)


@given(sizes=st.lists(st.integers(0, 5), max_size=20), data=st.data())
def test_the_index_says_where_the_rows_of_a_block_begin(sizes: list[int], data: st.DataObject) -> None:
    """E-23: what was found when the bytes came is what a search of the block finds, however pieces became blocks."""
    index, sequence, pieces = RowIndex(), 0, []
    for size in sizes:
        wire = packets([bytes(row + 1) for row in range(size)], sequence=sequence)
        found = scan(received(wire), len(wire), sequence)
        sequence = found.next_sequence
        index.note(found)
        pieces.append(wire)

    while pieces:
        taken = data.draw(st.integers(1, len(pieces)))
        block = b"".join(pieces[:taken])
        del pieces[:taken]
        starts = index.take(len(block))
        assert starts is not None
        assert starts.tolist() == find_packets(received(block), len(block)).starts.tolist()
    with pytest.raises(FramingError):
        index.take(1)
