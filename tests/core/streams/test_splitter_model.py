"""The line splitter under every option at once, against a model that has the whole input and no speed to gain."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow._streams.lines.codec import ASCII_SUPERSETS, TextCodec, sniff
from procflow._streams.lines.splitter import LineSplitter
from procflow.events import Cut, CutLine, Gap
from procflow.policies import LineConfig, Overflow

Plain = tuple[str, "Cut | None", int, int]
"""Text, cut, lost bytes, offset after it."""

codecs.register_error("procflow-test", lambda error: ("<\n>", error.end))  # type: ignore[attr-defined]  # a decoder calls it

SYLLABLES = [
    b"a",
    b"b",
    b"x",
    b"-",
    b"\\",
    b"\r",
    b"\n",
    b"\0",
    b"\r\n",
    b"--",
    b"\n\0",
    b"\0\n",
    b"\xff",
    b"\xe2",
    b"\x9c\x93",
    b"\x81",
]
DATA = st.one_of(
    st.lists(st.sampled_from(SYLLABLES), max_size=40).map(b"".join),
    st.lists(st.sampled_from([b"long" * 20, b"\n", b"\r\n", b"ab"]), max_size=12).map(b"".join),
)
PLACES = st.lists(st.integers(0, 400), max_size=8)
NARROW = st.builds(
    LineConfig,
    delimiter=st.sampled_from(
        [None, b"\n", b"\r", b"\0", b"\r\n", b"--", b"aa", b"aba", b"x", b"\\", b"\xff", b"\x9c\x93", b"\n-"]
    ),
    max_line_bytes=st.one_of(st.integers(1, 12), st.sampled_from([40, 1000])),
    overflow=st.sampled_from([Overflow.SPLIT, Overflow.TRUNCATE]),
    encoding=st.sampled_from(
        ["utf-8", "utf-8-sig", "ascii", "latin-1", "cp1251", "cp037", "gbk", "shift_jis", "euc_kr", "utf-7", "hz"]
    ),
    errors=st.sampled_from(["replace", "ignore", "backslashreplace", "surrogateescape", "procflow-test"]),
)
WIDE = st.builds(
    LineConfig,
    delimiter=st.just(None),
    max_line_bytes=st.one_of(st.integers(1, 12), st.just(1000)),
    overflow=st.sampled_from([Overflow.SPLIT, Overflow.TRUNCATE]),
    encoding=st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]),
    errors=st.sampled_from(["replace", "ignore", "backslashreplace"]),
)


def model(data: bytes, config: LineConfig) -> list[Plain]:
    found = sniff(config.encoding, data, is_final=True)
    assert found is not None
    codec = TextCodec(found[0], config.errors)
    delimiter = codec.newline if config.delimiter is None else config.delimiter
    start = found[1]
    lines: list[Plain] = []
    while start < len(data):
        place = start
        while data[place : place + len(delimiter)] != delimiter or place % codec.width:
            place += 1
            if place >= len(data):
                break
        content, stop = data[start:place], min(place + len(delimiter), len(data))
        if config.delimiter is None and place < len(data):
            content = content.removesuffix(codec.return_)
        lines += cut(content, start, stop, config, codec)
        start = stop
    return lines


def cut(content: bytes, start: int, stop: int, config: LineConfig, codec: TextCodec) -> list[Plain]:
    decode = codecs.getdecoder(codec.name)
    if len(content) <= config.max_line_bytes:
        return [(decode(content, config.errors)[0], None, 0, stop)]
    pieces: list[Plain] = []
    while len(content) > config.max_line_bytes:
        size = codec.cut_before(content, config.max_line_bytes)
        text, content = decode(content[:size], config.errors)[0], content[size:]
        if config.overflow is Overflow.TRUNCATE:
            return [(text, Cut.TRUNCATED, len(content), stop)]
        start += size
        pieces.append((text, Cut.CONTINUES, 0, start))
    return [*pieces, (decode(content, config.errors)[0], Cut.REST, 0, stop)]


def split(config: LineConfig, parts: list[bytes]) -> list[Plain]:
    splitter = LineSplitter(config)
    lines: list[Plain] = []

    def note(items: list[str | Gap]) -> None:
        for item, end in zip(items, splitter.ends(), strict=True):
            assert isinstance(item, str)
            cut, lost_bytes = (item.cut, item.lost_bytes) if isinstance(item, CutLine) else (None, 0)
            lines.append((str(item), cut, lost_bytes, end))

    for part in parts:
        note(splitter.feed(part))
    note(splitter.finish())
    return lines


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in zip(borders, borders[1:], strict=False)]


@settings(max_examples=1500, deadline=None)
@given(data=DATA, places=PLACES, config=st.one_of(NARROW, WIDE))
def test_every_option_gives_the_lines_of_the_model(data: bytes, places: list[int], config: LineConfig) -> None:
    """C-40: any delimiter, codec, error handler and bound, cut anywhere: the lines, their cuts and their ends are the model's."""
    expected = model(data, config)

    assert split(config, [data]) == expected
    assert split(config, cut_at(data, places)) == expected
    assert split(config, [data[i : i + 1] for i in range(len(data))]) == expected


@pytest.mark.parametrize("name", sorted(ASCII_SUPERSETS))
def test_blocks_are_decoded_at_once_only_where_that_changes_nothing(name: str) -> None:
    """C-40: in each codec whose lines are decoded many at once, an ASCII byte is that character, whatever stands before it."""
    assert codecs.lookup(name).name == name
    for byte in range(256):
        for after in range(128):
            text = bytes([byte, after]).decode(name, "replace")
            assert text[-1] == chr(after)
            assert text[:-1] == bytes([byte]).decode(name, "replace")


@pytest.mark.parametrize(
    ("config", "data", "lines"),
    [
        (LineConfig(delimiter=b"x", errors="backslashreplace"), b"a\xffbxc", ["a\\xffb", "c"]),
        (LineConfig(errors="ignore"), b"a\r\xff\nb", ["a\r", "b"]),
        (LineConfig(delimiter=b"<>", errors="ignore"), b"a<\xff>b<>c", ["a<>b", "c"]),
        (LineConfig(errors="procflow-test"), b"a\xffb\nc", ["a<\n>b", "c"]),
    ],
)
def test_what_an_error_handler_writes_ends_no_line(config: LineConfig, data: bytes, lines: list[str]) -> None:
    """C-40: a delimiter is looked for in the bytes; what stands for bytes that do not decode is none, whatever it looks like."""
    splitter = LineSplitter(config)
    assert splitter.feed(data) + splitter.finish() == lines


@pytest.mark.parametrize(
    "config", [LineConfig(max_line_bytes=64), LineConfig(max_line_bytes=64, overflow=Overflow.TRUNCATE)]
)
def test_short_lines_among_long_ones_are_split_together(config: LineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-43: a bound below the size of a chunk costs a search for each bound, not a step for each line."""
    walked = 0
    walk = LineSplitter._walk

    def counted(self: LineSplitter, *args: object) -> int:
        nonlocal walked
        walked += 1
        return walk(self, *args)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(LineSplitter, "_walk", counted)
    splitter = LineSplitter(config)
    items: list[str | Gap] = []
    for _ in range(10):
        items += splitter.feed(b"short\n" * 1000 + b"x" * 100 + b"\n" + b"short\n" * 1000)

    assert items.count("short") == 20_000
    assert walked <= 20


# --- what is unread -------------------------------------------------------------------------------------------------


def test_an_unterminated_line_that_was_not_given_out_is_unread() -> None:
    """C-26: before the first item of the last step everything of that step is unread, the unterminated line too."""
    splitter = LineSplitter(LineConfig())
    assert splitter.feed(b"one\ntwo") == ["one"]
    assert splitter.finish() == ["two"]
    assert [splitter.offset_after(count) for count in (0, 1)] == [4, 7]


def test_a_truncated_line_that_was_not_given_out_is_unread() -> None:
    """C-26: a reader that goes on before a truncated line was given out begins at its first byte, not at its middle."""
    splitter = LineSplitter(LineConfig(max_line_bytes=4, overflow=Overflow.TRUNCATE))
    assert splitter.feed(b"ok\nfour and more") == ["ok"]
    assert len(splitter.feed(b" yet\nnext\n")) == 2
    assert [splitter.offset_after(count) for count in (0, 1, 2)] == [3, 21, 26]


def test_a_gap_that_was_not_given_out_is_unread() -> None:
    """C-42: before a gap was given out it begins where its loss began."""
    splitter = LineSplitter(LineConfig())
    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.gap(Gap(6, 10)) == []
    assert splitter.feed(b"x\nnext\n") == [Gap(4, 12), "next"]
    assert [splitter.offset_after(count) for count in (0, 1, 2)] == [4, 12, 17]
