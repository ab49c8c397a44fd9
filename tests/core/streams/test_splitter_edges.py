"""The line splitter at exact borders, where a random input seldom stands."""

from __future__ import annotations

import pytest

from procflow._streams.lines.splitter import LineSplitter
from procflow.events import Cut, CutLine, Gap
from procflow.policies import LineConfig, Overflow


def test_a_return_before_the_newline_does_not_make_a_line_too_long() -> None:
    """C-41: the bound is the line without its delimiter, also when CR and LF arrive apart."""
    splitter = LineSplitter(LineConfig(max_line_bytes=4))

    items = splitter.feed(b"four\r") + splitter.feed(b"\nrest")

    assert items == ["four"]
    assert not isinstance(items[0], CutLine)


def test_a_line_that_is_being_truncated_is_unread_from_its_start() -> None:
    """C-26: until a truncated line was given out, another reader goes on at its first byte."""
    splitter = LineSplitter(LineConfig(max_line_bytes=4, overflow=Overflow.TRUNCATE))

    assert splitter.feed(b"ok\nfour and more") == ["ok"]
    assert splitter.resume_offset == 3
    (line,) = splitter.feed(b" yet\nnext")
    assert isinstance(line, CutLine)
    assert (str(line), line.cut, line.lost_bytes) == ("four", Cut.TRUNCATED, len(b" and more yet"))
    assert splitter.resume_offset == len(b"ok\nfour and more yet\n")


@pytest.mark.parametrize(
    ("config", "data"),
    [
        (LineConfig(errors="strict"), b"ok\n\xff\nrest"),
        (LineConfig(max_line_bytes=4, overflow=Overflow.ERROR), b"ok\nfive!\nrest"),
        (LineConfig(max_line_bytes=4, overflow=Overflow.ERROR), b"ok\nfive!"),
    ],
)
def test_a_stopped_splitter_gives_nothing_more(config: LineConfig, data: bytes) -> None:
    """C-41: after the line that could not be given out nothing follows, also not the unterminated rest."""
    splitter = LineSplitter(config)

    assert splitter.feed(data) == ["ok"]
    assert splitter.has_stopped or splitter.finish() == []
    assert splitter.feed(b"more\n") + splitter.finish() == []
    assert splitter.resume_offset == 3


@pytest.mark.parametrize(("delimiter", "line"), [(None, "dos"), (b"\n", "dos\r")])
def test_a_return_belongs_to_a_line_with_a_delimiter_of_its_own(delimiter: bytes | None, line: str) -> None:
    """C-40: the CR before LF is removed by default only; a delimiter that is given is exactly those bytes."""
    assert LineSplitter(LineConfig(delimiter=delimiter)).feed(b"dos\r\n") == [line]
    assert LineSplitter(LineConfig(delimiter=delimiter, max_line_bytes=4)).feed(b"dos\r\n") == [line]
    assert LineSplitter(LineConfig(delimiter=delimiter, encoding="gbk")).feed(b"dos\r\n") == [line]


def test_a_byte_order_mark_counts_as_bytes_of_the_stream() -> None:
    """C-45: offsets after lines count the mark, so another reader goes on exactly there."""
    splitter = LineSplitter(LineConfig(encoding="utf-16"))
    data = "\ufeffone\ntwo\n".encode("utf-16-be")

    assert splitter.feed(data[:1]) == []
    assert splitter.feed(data[1:]) == ["one", "two"]
    assert splitter.offset_after(1) == len("\ufeffone\n".encode("utf-16-be"))
    assert splitter.resume_offset == len(data)


def test_the_end_of_an_endless_line_is_counted_from_its_start() -> None:
    """C-42: what a gap takes of a line that is dropped piece by piece begins where that line, or its loss, began."""
    splitter = LineSplitter(LineConfig(max_line_bytes=4))
    assert splitter.gap(Gap(0, 10)) == []
    for _ in range(5):
        assert splitter.feed(b"x" * 100) == []
    assert splitter.feed(b"\nnext\n") == [Gap(0, 511), "next"]
    assert splitter.offset_after(1) == 511


def test_a_character_is_not_torn_by_a_cut() -> None:
    """C-41: a cut never falls into a character, whichever byte of it is the last that fits."""
    for size in range(4, 8):
        pieces = LineSplitter(LineConfig(max_line_bytes=size)).feed("é✓😀é✓😀".encode() + b"\n")
        assert "".join(str(piece) for piece in pieces) == "é✓😀é✓😀"
