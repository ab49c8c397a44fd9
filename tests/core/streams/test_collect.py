"""Collectors and rotation: pure code against naive models."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import procflow as pf
from procflow._streams.consumers.collect import PIECES, ByteCollector, LineCollector
from procflow._streams.consumers.rotation import FilePlace, next_piece, older_names

EVENTS = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=12)), max_size=30)


def collected(parts: list[bytes], *, head: int = 0, tail: int = 0) -> pf.Captured:
    collector, offset = ByteCollector(0, head_bytes=head, tail_bytes=tail), 0
    for part in parts:
        collector.feed(pf.Chunk(part, offset))
        offset += len(part)
    return collector.value(is_complete=True)


@pytest.mark.parametrize(
    ("parts", "head", "tail"),
    [
        ([b""], b"", b""),
        ([b"abcde"], b"abcde", b"abcde"),
        ([b"abcde", b"f"], b"abcde", b"bcdef"),
        ([b"abc", b"defg"], b"abcde", b"cdefg"),
        ([b"abcde", b"fgh", b"i"], b"abcde", b"efghi"),
        ([b"abcdefghij"], b"abcde", b"fghij"),
        ([b"ab", b"cdefghij"], b"abcde", b"fghij"),
    ],
)
def test_bytes_are_kept_up_to_the_bound_at_each_end(parts: list[bytes], head: bytes, tail: bytes) -> None:
    """C-50: the first or the newest 5 bytes are kept exactly, and truncated says whether that is all (TPT 123, 125)."""
    total = sum(map(len, parts))

    for kept, expected in ((collected(parts, head=5), head), (collected(parts, tail=5), tail)):
        assert kept.bytes == expected
        assert kept.truncated == (total > 5)
        assert kept.lost_bytes == total - len(expected)


def test_a_bound_of_zero_keeps_nothing_and_says_so() -> None:
    """C-50: with no room at all everything counts as lost."""
    kept = collected([b"abc"])

    assert (kept.bytes, kept.lost_bytes, kept.gaps) == (b"", 3, (pf.Gap(0, 3),))


@given(EVENTS, st.integers(0, 20), st.integers(0, 20), st.integers(0, 5))
def test_the_collector_of_bytes_equals_a_naive_one(
    events: list[tuple[bool, bytes]], head: int, tail: int, start: int
) -> None:
    """C-50: whatever comes, the kept bytes, their offsets and every gap are those of a model that keeps everything."""
    collector = ByteCollector(start, head_bytes=head, tail_bytes=tail)
    seen: dict[int, int] = {}
    offset = start
    head_left, head_is_open = head, True
    kept_head: list[int] = []
    rest: list[int] = []
    for is_gap, data in events:
        if is_gap:
            collector.feed(pf.Gap(offset, offset + len(data)))
        else:
            collector.feed(pf.Chunk(data, offset))
            for position, byte in enumerate(data, offset):
                seen[position] = byte
                head_is_open = head_is_open and head_left > 0
                (kept_head if head_is_open else rest).append(position)
                head_left -= head_is_open
        offset += len(data)
    kept = [*kept_head, *(rest[-tail:] if tail else [])]

    value = collector.value(is_complete=True)

    assert value.bytes == bytes(seen[position] for position in kept)
    assert [at for piece in value.pieces for at in range(piece.offset, piece.stop)] == kept
    missing = [position for gap in value.gaps for position in range(gap.start, gap.stop)]
    assert sorted([*kept, *missing]) == list(range(start, offset))
    assert value.lost_bytes == len(missing) == sum(gap.lost_bytes for gap in value.gaps)
    assert collector.value(is_complete=True) == value
    assert pickle.loads(pickle.dumps(value)) == value


def test_gaps_do_not_make_the_books_grow() -> None:
    """C-50: a stream that is all gaps keeps a bounded number of stretches, and still counts every byte."""
    for head, tail in ((1 << 30, 0), (0, 1 << 30), (1 << 30, 1 << 30)):
        collector = ByteCollector(0, head_bytes=head, tail_bytes=tail)
        for offset in range(0, 20 * PIECES, 2):
            collector.feed(pf.Chunk(b"x", offset))
            collector.feed(pf.Gap(offset + 1, offset + 2))

        value = collector.value(is_complete=True)

        assert len(value.gaps) <= 2 * PIECES + 1
        assert len(value.bytes) + value.lost_bytes == 20 * PIECES


def test_a_full_tail_moves_its_bytes_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-50: keeping the newest costs the same for every byte, whatever the bound: single bytes move it once a length (TPT 5.2.10)."""
    moves = 0
    drop = ByteCollector._drop

    def counted(collector: ByteCollector, count: int) -> None:
        nonlocal moves
        moves += 1
        drop(collector, count)

    monkeypatch.setattr(ByteCollector, "_drop", counted)
    collector = ByteCollector(0, head_bytes=0, tail_bytes=1000)
    for offset in range(100_000):
        collector.feed(pf.Chunk(b"x", offset))

    assert moves <= 100
    assert len(collector.value(is_complete=True).bytes) == 1000


def test_captured_lines_and_text_never_join_the_sides_of_a_gap() -> None:
    """C-42: what was kept on the two sides of a gap is not read as one line."""
    kept = collected([b"one\ntwo\nthree\nfour\nfi", b"ve\n"], head=6, tail=5)

    assert kept.gaps == (pf.Gap(6, 19),)
    assert kept.lines == ["one", "tw", "five"]
    assert kept.text == "one\ntw\n[13 bytes are missing]\nfive\n"
    assert [(piece.data, piece.offset) for piece in kept.pieces] == [(b"one\ntw", 0), (b"five\n", 19)]


# --- lines ----------------------------------------------------------------------------------------------------------


def lines_of(items: list[str], *, head: int = 0, tail: int = 0, max_bytes: int = 1000) -> pf.CapturedLines:
    collector = LineCollector(head_lines=head, tail_lines=tail, max_bytes=max_bytes)
    collector.feed(items)
    return collector.value()


@pytest.mark.parametrize(
    ("items", "bound", "head", "tail"),
    [
        (["aa", "bb", "cc"], (9, 4), ["aa", "bb"], ["bb", "cc"]),
        (["a", "b", "c"], (2, 9), ["a", "b"], ["b", "c"]),
        (["aa", "bb"], (9, 4), ["aa", "bb"], ["aa", "bb"]),
        (["aa", "bbb"], (9, 4), ["aa"], ["bbb"]),
        (["a", "b", "cccc"], (9, 4), ["a", "b"], ["cccc"]),
        (["", "", ""], (2, 0), ["", ""], ["", ""]),
        (["é", "é"], (9, 2), ["é"], ["é"]),
        (["a"], (0, 9), [], []),
    ],
)
def test_lines_are_kept_up_to_both_bounds(
    items: list[str], bound: tuple[int, int], head: list[str], tail: list[str]
) -> None:
    """C-50: lines are kept whole, by number and by bytes of UTF-8, and truncated says whether any is missing (TPT 124, 126, 127, 129, 130, 131)."""
    max_lines, max_bytes = bound

    first, newest = (
        lines_of(items, head=max_lines, max_bytes=max_bytes),
        lines_of(items, tail=max_lines, max_bytes=max_bytes),
    )

    assert (first.lines, newest.lines) == (head, tail)
    for kept in (first, newest):
        assert kept.dropped_lines == len(items) - len(kept.lines)
        assert kept.dropped_bytes == sum(len(line.encode()) for line in items) - sum(
            len(line.encode()) for line in kept.lines
        )
        assert kept.truncated == (kept.dropped_lines > 0)


def test_an_oversized_newest_line_evicts_nobody_and_stays_visible() -> None:
    """C-50: a line that can never fit leaves an empty cut line in its place and the others alone (TPT 128)."""
    kept = lines_of(["a", "b", "x" * 99], tail=3, max_bytes=5)

    assert kept.lines == ["a", "b", ""]
    stub = kept.tail[-1]
    assert isinstance(stub, pf.CutLine)
    assert (stub.cut, stub.lost_bytes) == (pf.Cut.TRUNCATED, 99)
    assert (kept.dropped_lines, kept.dropped_bytes, kept.truncated) == (1, 99, True)
    assert lines_of(["x" * 99, "a"], tail=1, max_bytes=5).dropped_lines == 1


def test_the_first_lines_are_a_beginning_without_holes() -> None:
    """C-50: a line that does not fit ends the head: what comes later does not slip in, and what is kept stays (TPT 132, 133)."""
    kept = lines_of(["aa", "x" * 99, "b"], head=9, max_bytes=5)

    assert kept.lines == ["aa"]
    assert (kept.dropped_lines, kept.dropped_bytes) == (2, 100)


def test_gaps_and_cut_lines_show_in_what_was_kept() -> None:
    """C-50: nothing is missing without truncated saying so, whoever lost it (TPT 5.2.4)."""
    collector = LineCollector(head_lines=1, tail_lines=5, max_bytes=99)
    collector.feed(["a", "b", pf.Gap(4, 9), pf.CutLine("c", cut=pf.Cut.TRUNCATED, lost_bytes=3)])

    kept = collector.value()

    assert (kept.head, kept.tail[:2], kept.lines) == (("a",), ("b", pf.Gap(4, 9)), ["a", "b", "c"])
    assert (kept.dropped_lines, kept.lost_bytes, kept.cut_lines, kept.truncated) == (0, 8, 1, True)


@given(
    st.lists(st.lists(st.text(max_size=6), max_size=12), max_size=6),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(0, 12),
)
def test_the_collector_of_lines_equals_a_naive_one(
    batches: list[list[str]], head: int, tail: int, max_bytes: int
) -> None:
    """C-50: however lines come together, head and tail are those of a model, every line and byte is kept or counted."""
    collector = LineCollector(head_lines=head, tail_lines=tail, max_bytes=max_bytes)
    for batch in batches:
        collector.feed(batch)
    items = [line for batch in batches for line in batch]

    value = collector.value()

    cost = [len(item.encode("utf-8", "surrogatepass")) for item in items]
    first = 0
    while first < min(len(items), head) and sum(cost[: first + 1]) <= max_bytes:
        first += 1
    assert list(value.head) == items[:first]
    fits = [0 if size > max_bytes else size for size in cost[first:]]
    texts = ["" if size > max_bytes else item for size, item in zip(cost[first:], items[first:], strict=True)]
    count = 0
    while count < min(tail, len(texts)) and sum(fits[len(fits) - count - 1 :]) <= max_bytes:
        count += 1
    assert list(value.tail) == (texts[-count:] if count else [])
    whole = len(value.lines) - sum(isinstance(item, pf.CutLine) for item in value.tail)
    assert whole + value.dropped_lines == len(items)
    kept_bytes = sum(len(line.encode("utf-8", "surrogatepass")) for line in value.lines)
    assert kept_bytes + value.dropped_bytes == sum(cost)


# --- rotation -------------------------------------------------------------------------------------------------------


@given(st.lists(st.text("ab\n", min_size=1, max_size=9).map(str.encode), max_size=30), st.integers(1, 12))
def test_rotation_loses_nothing_and_splits_no_line_that_fits(parts: list[bytes], max_bytes: int) -> None:
    """C-31: the files together are the stream, none is larger than the bound, and a line that fits in one is in one."""
    rotation = pf.Rotation(max_bytes=max_bytes)
    files: list[bytes] = [b""]
    place = FilePlace()
    for data in parts:
        position = 0
        while True:
            size, moving = next_piece(data, position, place, rotation)
            piece = data[position : position + size]
            place.advance(piece, piece.rfind(b"\n") + 1)
            files[-1] += piece
            position += size
            if moving is None:
                break
            if position < len(data):
                moved = files[-1][len(files[-1]) - moving :]
                files[-1] = files[-1][: len(files[-1]) - moving]
                files.append(moved)
                place = FilePlace(moving, 0)

    stream = b"".join(parts)
    assert b"".join(files) == stream
    assert all(len(file) <= max_bytes for file in files)
    borders = {len(b"".join(files[:count])) for count in range(1, len(files))}
    start = 0
    for line in stream.splitlines(keepends=True):
        if len(line) <= max_bytes:
            assert not borders & set(range(start + 1, start + len(line)))
        start += len(line)


def test_a_rotation_renames_the_oldest_first() -> None:
    """C-31: a rename never overwrites a file that is still to be renamed."""
    names = list(older_names("log", pf.Rotation(max_bytes=1, max_files=3)))

    assert names == [("log.1", "log.2"), ("log", "log.1")]
    assert list(older_names("log", pf.Rotation(max_bytes=1, max_files=1))) == []
