"""The line splitter against a model that has the whole input at once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow._streams.lines.splitter import LineSplitter
from procflow.events import Cut, CutLine, Gap
from procflow.policies import LineConfig, Overflow

LF = LineConfig()


def split(config: LineConfig, parts: list[bytes]) -> list[str | Gap]:
    splitter = LineSplitter(config)
    items: list[str | Gap] = []
    for part in parts:
        items += splitter.feed(part)
    return items + splitter.finish()


def plain(items: list[str | Gap]) -> list[object]:
    return [(str(i), i.cut, i.lost_bytes) if isinstance(i, CutLine) else i for i in items]


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in zip(borders, borders[1:], strict=False)]


PLACES = st.lists(st.integers(0, 200), max_size=8)
TEXT = st.text(st.sampled_from("ab-\r\n\0é✓😀"), max_size=40)
BYTES = st.one_of(
    TEXT.map(str.encode), st.lists(st.sampled_from(b"ab\r\n\0-\xe2\x9c\x93\xf0\xff"), max_size=40).map(bytes)
)
DELIMITERS = st.sampled_from([None, b"\n", b"\r", b"\0", b"\r\n", b"--", b"aa", b"aba"])
CONFIGS = st.builds(
    LineConfig,
    delimiter=DELIMITERS,
    max_line_bytes=st.one_of(st.integers(1, 10), st.just(1000)),
    overflow=st.sampled_from([Overflow.SPLIT, Overflow.TRUNCATE]),
    encoding=st.sampled_from(["utf-8", "latin-1", "gbk", "ascii"]),
    errors=st.sampled_from(["replace", "ignore", "backslashreplace"]),
)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"no newline", ["no newline"]),
        (b"one\n", ["one"]),
        (b"one\ntwo\nrest", ["one", "two", "rest"]),
        (b"\n\na\n\n", ["", "", "a", ""]),
        (b"dos\r\nunix\nbare\rcr\r\r\n", ["dos", "unix", "bare\rcr\r"]),
        (b"  blanks kept \t\n", ["  blanks kept \t"]),
        (b"nul\0kept\n", ["nul\0kept"]),
        (b"\xf0\x28\x8c\xbc\n", ["�(��"]),
        ("\x0b\x1c\u2028 are no newlines\n".encode(), ["\x0b\x1c\u2028 are no newlines"]),
    ],
)
def test_lines_end_at_lf_or_crlf(data: bytes, lines: list[str]) -> None:
    """C-40: LF and CRLF end a line by default, empty lines stay, the unterminated tail comes once (TPT 98, 100, 104, N1)."""
    assert split(LF, [data]) == lines


@given(data=BYTES, delimiter=DELIMITERS, errors=st.sampled_from(["replace", "ignore", "surrogateescape"]))
def test_lines_are_the_input_split_at_the_delimiter(data: bytes, delimiter: bytes | None, errors: str) -> None:
    """C-40: any delimiter, any bytes: the lines are those of a split of the whole input (TPT 111)."""
    pieces = re.split(rb"\r?\n", data) if delimiter is None else data.split(delimiter)
    if not pieces[-1]:
        pieces.pop()

    lines = split(LineConfig(delimiter=delimiter, errors=errors), [data])

    assert lines == [piece.decode("utf-8", errors) for piece in pieces]


@settings(max_examples=400)
@given(data=BYTES, places=PLACES, config=CONFIGS)
def test_chunk_borders_do_not_matter(data: bytes, places: list[int], config: LineConfig) -> None:
    """C-40: any re-chunking, single bytes included, gives the same lines, whole or cut (TPT 106, 109, 110, 111, 112, 118)."""
    whole = plain(split(config, [data]))

    assert plain(split(config, cut_at(data, places))) == whole
    assert plain(split(config, [data[i : i + 1] for i in range(len(data))])) == whole


@settings(max_examples=200)
@given(
    text=TEXT,
    places=PLACES,
    encoding=st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig", "utf-7"]),
)
def test_any_codec_gives_the_same_lines(text: str, places: list[int], encoding: str) -> None:
    """C-40: wide code units, byte order marks and stateful codecs split where the text has its newlines."""
    expected = re.split(r"\r?\n", text)
    if not expected[-1]:
        expected.pop()

    assert split(LineConfig(encoding=encoding), cut_at(text.encode(encoding), places)) == expected


def test_a_wide_delimiter_is_found_only_at_a_whole_code_unit() -> None:
    """C-40: U+0A00 followed by a code unit with a zero byte is no newline in UTF-16."""
    text = "x\u0a00\u00e9\u000a\u0a0d!"

    assert split(LineConfig(encoding="utf-16-be"), [text.encode("utf-16-be")]) == text.split("\n")


@pytest.mark.parametrize(("encoding", "text"), [("utf-16-be", "\u0100\u0a00!\nx"), ("utf-16-le", "\u0a01\u4100!\nx")])
def test_the_halves_of_two_characters_are_no_newline(encoding: str, text: str) -> None:
    """C-40: the last byte of one code unit and the first of the next do not make a delimiter."""
    data = text.encode(encoding)
    assert "\n".encode(encoding) in data[: data.index("!".encode(encoding))]  # the trap is there

    assert split(LineConfig(encoding=encoding), [data]) == text.split("\n")


@pytest.mark.parametrize("delimiter", [b"--", b"<->", b"\r\n"])
def test_a_delimiter_is_found_over_any_border(delimiter: bytes) -> None:
    """C-40: a delimiter of several bytes that arrives byte by byte, or cut anywhere, ends a line at once."""
    for cut in range(len(delimiter) + 1):
        splitter = LineSplitter(LineConfig(delimiter=delimiter))
        assert splitter.feed(b"one" + delimiter[:cut]) + splitter.feed(delimiter[cut:] + b"two") == ["one"]
    splitter = LineSplitter(LineConfig(delimiter=delimiter))
    items: list[str | Gap] = []
    for byte in b"one" + delimiter:
        items += splitter.feed(bytes([byte]))
    assert items == ["one"]


@settings(max_examples=300)
@given(text=TEXT, places=PLACES, max_line_bytes=st.integers(4, 12))
def test_split_lines_lose_nothing(text: str, places: list[int], max_line_bytes: int) -> None:
    """C-41: the pieces of a long line are at most the bound long, keep characters whole, and join to the line (TPT 114)."""
    config = LineConfig(max_line_bytes=max_line_bytes)
    joined: list[str] = []
    is_open = False

    for line in split(config, cut_at(text.encode(), places)):
        assert isinstance(line, str)
        assert len(line.encode()) <= max_line_bytes
        if is_open:
            joined[-1] += line
        else:
            joined.append(line)
        cut = line.cut if isinstance(line, CutLine) else None
        assert (cut is Cut.REST) == (is_open and cut is not Cut.CONTINUES)
        is_open = cut is Cut.CONTINUES

    assert joined == split(LF, [text.encode()])


@settings(max_examples=300)
@given(text=TEXT, places=PLACES, max_line_bytes=st.integers(4, 12))
def test_truncated_lines_say_what_is_missing(text: str, places: list[int], max_line_bytes: int) -> None:
    """C-41: a truncated line is one CutLine, and its text and its lost bytes are the length of the line (TPT 113)."""
    config = LineConfig(max_line_bytes=max_line_bytes, overflow=Overflow.TRUNCATE)

    lines = split(config, cut_at(text.encode(), places))

    whole = split(LF, [text.encode()])
    assert len(lines) == len(whole)
    for line, full in zip(lines, whole, strict=True):
        assert isinstance(line, str)
        assert isinstance(full, str)
        lost = line.lost_bytes if isinstance(line, CutLine) else 0
        assert full.startswith(line)
        assert len(line.encode()) + lost == len(full.encode())
        assert isinstance(line, CutLine) == (len(full.encode()) > max_line_bytes)


@given(data=st.lists(st.sampled_from(b"abc\n"), max_size=40).map(bytes), places=PLACES)
def test_an_overlong_line_stops_the_splitter_on_request(data: bytes, places: list[int]) -> None:
    """C-41: with the error policy the lines before the long one come, then its offset is known and nothing follows."""
    config = LineConfig(max_line_bytes=5, overflow=Overflow.ERROR)
    splitter = LineSplitter(config)
    lines: list[str | Gap] = []
    for part in cut_at(data, places):
        lines += splitter.feed(part)
    lines += splitter.finish()

    expected, offset, bad = [], 0, None
    for line in split(LF, [data]):
        assert isinstance(line, str)
        if len(line) > 5:
            bad = offset
            break
        expected.append(line)
        offset += len(line) + 1
    assert lines == expected
    assert splitter.overflow_at == bad


def test_an_endless_line_needs_bounded_memory() -> None:
    """C-41: 100 MiB without a newline never holds more than the longest line and one chunk (TPT N3)."""
    block = b"x" * 65536
    for overflow in (Overflow.SPLIT, Overflow.TRUNCATE):
        splitter = LineSplitter(LineConfig(overflow=overflow))
        pieces: list[str | Gap] = []
        total = 0
        for _ in range(1600):
            pieces = splitter.feed(block)
            total += sum(len(piece) for piece in pieces if isinstance(piece, str))
            assert splitter._pending_bytes <= 1024 * 1024 + len(block)
        last = splitter.finish()
        assert len(last) == 1
        assert isinstance(last[0], CutLine)
        assert total + len(last[0]) + last[0].lost_bytes == 1600 * 65536


@given(
    segments=st.lists(
        st.one_of(BYTES.map(lambda data: data[:12]), st.integers(1, 9)), max_size=8
    ),  # bytes, or the length of a gap
    config=CONFIGS,
)
@settings(max_examples=400)
def test_lines_and_gaps_tile_the_stream(segments: list[bytes | int], config: LineConfig) -> None:
    """C-42: no line joins both sides of a gap; every byte is in a line, in its delimiter, counted as cut, or in a gap (TPT 115)."""
    splitter = LineSplitter(config)
    whole = b""
    position = 0
    lost: list[Gap] = []
    steps: list[tuple[list[str | Gap], int]] = []
    for segment in segments:
        if isinstance(segment, int):
            gap = Gap(position, position + segment)
            lost.append(gap)
            items = splitter.gap(gap)
            whole += b"?" * segment
            position += segment
        else:
            items = splitter.feed(segment)
            whole += segment
            position += len(segment)
        steps.append((items, splitter.offset_after(len(items))))
        ends = [splitter.offset_after(count) for count in range(len(items) + 1)]
        assert ends == sorted(ends)
    items = splitter.finish()
    steps.append((items, position))

    gaps = [item for items, _ in steps for item in items if isinstance(item, Gap)]
    for gap in lost:  # every lost byte lies in a gap that the reader sees, and these do not overlap
        truncated = any(isinstance(i, CutLine) and i.cut is Cut.TRUNCATED for items, _ in steps for i in items)
        assert truncated or any(seen.start <= gap.start and gap.stop <= seen.stop for seen in gaps)
    for before, after in zip(gaps, gaps[1:], strict=False):
        assert before.stop <= after.start
    if config.overflow is Overflow.SPLIT and config.encoding == "latin-1":  # text length is byte length
        size = sum(len(i) if isinstance(i, str) else i.lost_bytes for items, _ in steps for i in items)
        assert size <= position
        outside = b"".join(
            whole[a:b] for a, b in zip([0, *[g.stop for g in gaps]], [*[g.start for g in gaps], position], strict=True)
        )
        delimiter = config.delimiter or b"\n"
        text = "".join(i for items, _ in steps for i in items if isinstance(i, str))
        if config.delimiter is None:
            outside, text = outside.replace(b"\r", b""), text.replace("\r", "")
        if len(delimiter) == 1:
            assert text.encode("latin-1") == outside.replace(delimiter, b"")


@given(before=TEXT, after=TEXT, places=PLACES)
def test_lines_resume_after_the_next_delimiter(before: str, after: str, places: list[int]) -> None:
    """C-42: the unfinished line before a gap and everything up to the first newline after it belong to the gap (TPT 107, 115, 121)."""
    splitter = LineSplitter(LF)
    head = before.encode()
    items = splitter.feed(head)
    items += splitter.gap(Gap(len(head), len(head) + 7))
    for part in cut_at(after.encode(), places):
        items += splitter.feed(part)
    items += splitter.finish()

    whole_before = split(LF, [head[: head.rfind(b"\n") + 1]])
    tail = after.encode()
    cut = tail.find(b"\n")
    whole_after = split(LF, [tail[cut + 1 :]]) if cut >= 0 else []
    stop = len(head) + 7 + (cut + 1 if cut >= 0 else len(tail))
    assert items == [*whole_before, Gap(head.rfind(b"\n") + 1, stop), *whole_after]


@settings(max_examples=300)
@given(data=BYTES, places=PLACES, config=CONFIGS)
def test_another_reader_can_go_on_after_any_line(data: bytes, places: list[int], config: LineConfig) -> None:
    """C-45: the offset after each line is where a new reader finds exactly the lines that follow."""
    if config.overflow is Overflow.TRUNCATE or config.encoding == "gbk":
        return
    splitter = LineSplitter(config)
    everything = split(LineConfig(delimiter=config.delimiter, encoding=config.encoding, errors=config.errors), [data])
    seen = 0
    for part in cut_at(data, places):
        items = splitter.feed(part)
        for count in range(len(items) + 1):
            offset = splitter.offset_after(count)
            if count and isinstance(items[count - 1], CutLine):
                continue
            rest = split(
                LineConfig(delimiter=config.delimiter, encoding=config.encoding, errors=config.errors), [data[offset:]]
            )
            if count:
                seen += 1
            if config.max_line_bytes == 1000:
                assert rest == everything[seen:]
    if config.max_line_bytes == 1000:
        rest = split(
            LineConfig(delimiter=config.delimiter, encoding=config.encoding, errors=config.errors),
            [data[splitter.resume_offset :]],
        )
        assert rest == everything[seen:]


@given(data=BYTES, places=PLACES)
def test_a_strict_codec_gives_the_lines_before_the_bad_one(data: bytes, places: list[int]) -> None:
    """C-40: with errors="strict" the lines before one that does not decode come first, then the error."""
    splitter = LineSplitter(LineConfig(errors="strict"))
    lines: list[str | Gap] = []
    for part in cut_at(data, places):
        lines += splitter.feed(part)
    lines += splitter.finish()

    expected = []
    for line in split(LineConfig(errors="surrogateescape"), [data]):
        assert isinstance(line, str)
        if any("\ud800" <= char <= "\udfff" for char in line):
            break
        expected.append(line)
    else:
        assert splitter.decode_error is None
    assert lines == expected
