"""JSON values out of a stream, one a line."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow._streams.core import StreamCore
from procflow._streams.lines.json_readers import JsonFeed, json_decoder
from procflow._streams.stream import open_stream
from procflow.errors import JsonLineError, LinesLostError
from procflow.events import Chunk, Cut, CutLine, Gap, StreamEnding, UndecodedLine
from procflow.policies import BestEffort, LineConfig, OnGap, Overflow, Reliable, Replay, StreamConfig
from tests.core.streams.sources import ScriptedSource

KEEP_ALL = StreamConfig(replay=Replay.all())


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int = 0


class Refusing(msgspec.Struct):
    """A type whose own code fails, not with a ValueError."""

    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ZeroDivisionError("no")


def cut_line(line: object) -> CutLine:
    assert isinstance(line, UndecodedLine)
    assert isinstance(line.text, CutLine)
    return line.text


# --- values, over any cut, against a model --------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.sampled_from('ab"\\\n\ré✓😀'), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BAD = st.sampled_from([b"{", b"nope", b"1 2", b"\xff", b'"\xff"', b"[1", b"\x0b", "\u3000".encode(), b"\xe2\x9c"])
BLANK = st.sampled_from([b"", b" ", b"\t", b"\r", b" \r"])
LINES = st.lists(
    st.one_of(
        VALUES.map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
        VALUES.map(lambda value: json.dumps(value).encode()),
        BAD,
        BLANK,
    ),
    max_size=12,
)


def model(lines: list[bytes]) -> list[object]:
    found: list[object] = []
    offset = 0
    for line in lines:
        if line.strip(b" \t\r"):
            try:
                found.append(json.loads(line.decode()))
            except ValueError:
                found.append((line.decode("utf-8", "replace"), offset))
        offset += len(line) + 1
    return found


@settings(max_examples=300, deadline=None)
@given(lines=LINES, places=st.lists(st.integers(0, 300), max_size=6), ends_open=st.booleans())
def test_each_line_is_one_value_or_one_event(lines: list[bytes], places: list[int], ends_open: bool) -> None:
    """C-44: any lines, cut anywhere: each is its value, or an event with its text and offset; blank ones are passed over."""
    data = b"\n".join(lines) + (b"" if ends_open else b"\n")
    core = StreamCore(Replay.all(), name="x")
    feed = JsonFeed(
        core.subscribe(Reliable(), "start"), LineConfig(), "raise", decode=json_decoder(object), on_error="yield"
    )
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    items: list[object] = []
    for start, stop in zip(borders, borders[1:], strict=False):
        core.log.append(data[start:stop])
        items += feed.step()
    core.log.end(_terminal())
    items += feed.step()
    feed.close()

    assert [(item.text, item.offset) if isinstance(item, UndecodedLine) else item for item in items] == model(lines)


def _terminal() -> Any:
    from procflow._streams.log.terminal import Terminal

    return Terminal(StreamEnding.EOF)


# --- readers --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_lines_become_values_of_the_type() -> None:
    """C-44: every line is decoded by msgspec into the type that was asked for; CRLF, blank lines and a missing last newline do no harm."""
    data = b'{"x": 1}\r\n\n{"x": 2, "y": 3}\n  \n{"x": 4}'
    async with open_stream(ScriptedSource(data, b""), KEEP_ALL) as stream:
        assert [item async for item in stream.json_lines(Point)] == [Point(1), Point(2, 3), Point(4)]
        assert [item async for item in stream.json_lines(dict[str, int], start="start")] == [
            {"x": 1},
            {"x": 2, "y": 3},
            {"x": 4},
        ]
        whole = [item async for batch in stream.json_batches(object, start="start") for item in batch]
        assert whole == [{"x": 1}, {"x": 2, "y": 3}, {"x": 4}]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["json_lines", "json_batches"])
async def test_a_line_that_does_not_decode_is_an_event(kind: str) -> None:
    """C-44: a broken line, and a value of another type, is an UndecodedLine with text, offset and reason; the others are values."""
    data = b'{"x": 1}\n{"x": \n{"x": "one"}\n\n{"x": 2}\n'
    async with open_stream(ScriptedSource(data, b"")) as stream:
        items: list[Any] = []
        async for item in getattr(stream, kind)(Point):
            items += item if isinstance(item, list) else [item]

    assert (items[0], items[3]) == (Point(1), Point(2))
    assert [(item.text, item.offset) for item in items[1:3]] == [('{"x": ', 9), ('{"x": "one"}', 16)]
    assert "truncated" in items[1].reason
    assert "`int`" in items[2].reason
    assert copy.copy(items[1]) == items[1] == pickle.loads(pickle.dumps(items[1]))
    with pytest.raises(FrozenInstanceError):
        items[1].text = "other"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["json_lines", "json_batches"])
async def test_a_line_that_does_not_decode_is_raised_on_request(kind: str) -> None:
    """C-44: with on_error="raise" the values before it come first, then JsonLineError, each time anew; lines after it stay unread."""
    async with open_stream(ScriptedSource(b"1\n2\nbad\n4\n5", b"")) as stream:
        reader = getattr(stream, kind)(int, on_error="raise")
        first = [await anext(reader) for _ in range(1 if kind == "json_batches" else 2)]
        assert first in ([[1, 2]], [1, 2])
        errors = []
        for _ in range(2):
            with pytest.raises(JsonLineError) as caught:
                await anext(reader)
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert (errors[0].line.text, errors[0].line.offset) == ("bad", 4)
        assert "bad" not in str(errors[0])
        assert pickle.loads(pickle.dumps(errors[0])).line == errors[0].line
        async with stream.subscribe() as events:
            assert await events.receive() == Chunk(b"4\n5", 8)


@pytest.mark.anyio
async def test_leaving_a_json_reader_leaves_its_unread_values() -> None:
    """C-26, C-44: values that a reader never yielded belong to the next subscriber, blank and broken lines among them or not."""
    async with open_stream(ScriptedSource(b"1\n2\n\n3\nbad\n\n4\n5", b"")) as stream:
        async with stream.json_lines(int) as values:
            assert [await anext(values), await anext(values)] == [1, 2]
        values = stream.json_lines(int)
        assert await anext(values) == 3
        del values
        async for item in stream.json_lines(int):
            assert isinstance(item, UndecodedLine)
            assert item.text == "bad"
            break
        assert [item async for item in stream.lines()] == ["4", "5"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("overflow", "cuts"), [(Overflow.SPLIT, [Cut.CONTINUES, Cut.REST]), (Overflow.TRUNCATE, [Cut.TRUNCATED])]
)
async def test_a_cut_line_is_never_decoded(overflow: Overflow, cuts: list[Cut]) -> None:
    """C-44: a piece of a line is no value though it looks like one: it is an event that has the piece."""
    config = LineConfig(max_line_bytes=4, overflow=overflow)
    async with open_stream(ScriptedSource(b"1234\n123456\n12\n", b"")) as stream:
        first, *pieces, last = [item async for item in stream.json_lines(int, config=config)]

    assert (first, last) == (1234, 12)
    assert [cut_line(piece).cut for piece in pieces] == cuts
    assert pieces[0] == UndecodedLine(text="1234", offset=5, reason="it is longer than 4 bytes")


@pytest.mark.anyio
@pytest.mark.parametrize("on_gap", ["yield", "skip", "raise", None])
async def test_json_readers_choose_how_they_see_gaps(on_gap: OnGap | None) -> None:
    """C-42, C-44: a gap is yielded between values (the default for best effort), skipped, or raised."""
    async with open_stream(ScriptedSource(*[b"%08d\n" % n for n in range(1, 100)], b"")) as stream:
        values = stream.json_lines(object, BestEffort(buffer_bytes=25), on_gap=on_gap)
        await stream.wait_ended()
        if on_gap == "raise":
            with pytest.raises(LinesLostError):
                await anext(values)
            return
        items = [item async for item in values]
        events = [item for item in items if isinstance(item, UndecodedLine)]
        assert [event.text for event in events] == ["00000098", "00000099"]  # JSON has no leading zeros
        assert items == ([] if on_gap == "skip" else [Gap(0, 873)]) + events


@pytest.mark.anyio
@pytest.mark.parametrize("errors", ["replace", "strict", "ignore"])
async def test_bytes_that_are_no_text_are_no_value(errors: str) -> None:
    """C-44: invalid UTF-8 never becomes a value with characters that nobody wrote, whatever the error handler."""
    async with open_stream(ScriptedSource(b'"ok"\n"\xff"\n"\xc3\xa9"\n', b"")) as stream:
        first, bad, last = [item async for item in stream.json_lines(str, config=LineConfig(errors=errors))]

    assert (first, last) == ("ok", "é")
    shown = '""' if errors == "ignore" else '"\ufffd"'
    assert bad == UndecodedLine(text=shown, offset=5, reason="it is not valid text")


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1251", "latin-1"])
async def test_json_may_come_in_any_encoding(encoding: str) -> None:
    """C-40, C-44: the lines are decoded with the codec of the configuration first."""
    text = "ж" if encoding == "cp1251" else "é"
    data = f'{{"a": "{text}"}}\n[1]\n'.encode(encoding)
    async with open_stream(ScriptedSource(*[data[i : i + 1] for i in range(len(data))], b"")) as stream:
        config = LineConfig(encoding=encoding)
        assert [item async for item in stream.json_lines(object, config=config)] == [{"a": text}, [1]]


@pytest.mark.anyio
async def test_deep_nesting_is_an_event() -> None:
    """C-44: a line that exhausts the decoder's depth is an event like any other that does not decode."""
    async with open_stream(ScriptedSource(b"[" * 100_000 + b"\n1\n", b"")) as stream:
        deep, one = [item async for item in stream.json_lines(object)]
    assert isinstance(deep, UndecodedLine)
    assert one == 1


@pytest.mark.anyio
async def test_what_a_type_itself_raises_ends_the_reader_after_the_values_before() -> None:
    """C-44: an error of a type's own code is no broken line: it is raised after the values before it, and loses none after it."""
    async with open_stream(ScriptedSource(b'{"x": 1}\n{"x": -1}\n{"x": 2}\n', b"")) as stream:
        values = stream.json_lines(Refusing)
        assert (await anext(values)) == Refusing(1)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await anext(values)
        assert [item async for item in stream.lines()] == ['{"x": 2}']


@pytest.mark.anyio
async def test_a_wrong_type_or_choice_is_refused_by_the_call() -> None:
    """C-44: what msgspec cannot decode into, and an unknown on_error, fail at the call and leave no subscriber."""
    async with open_stream(ScriptedSource(b"")) as stream:
        with pytest.raises(TypeError):
            stream.json_lines(dict[int, object] | list[int] | set[int])
        with pytest.raises(ValueError, match="on_error"):
            stream.json_lines(int, on_error="skip")  # type: ignore[call-overload]  # the subject of the test
        with pytest.raises(ValueError, match="on_gap"):
            stream.json_lines(int, on_gap="never")  # type: ignore[call-overload]  # the subject of the test
        assert stream.statistics().subscribers == ()


@pytest.mark.anyio
async def test_a_json_reader_waits_and_is_cancelled_without_loss() -> None:
    """C-29, C-44: a step that is cancelled has taken nothing; the next one goes on."""
    source = ScriptedSource(b"1\n2")
    async with open_stream(source) as stream:
        values = stream.json_lines(int)
        assert await anext(values) == 1
        with anyio.move_on_after(0.01) as scope:
            await anext(values)
        assert scope.cancelled_caught
        source.send(b"3\n", b"")
        assert [item async for item in values] == [23]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_first_line_behind_a_byte_order_mark_begins_behind_it(size: int) -> None:
    """C-44: the offset of an undecoded line does not depend on how the bytes came."""
    data = b"\xef\xbb\xbfnope\n1\n"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]

    async with open_stream(ScriptedSource(*pieces, b""), KEEP_ALL) as stream:
        items = [item async for item in stream.json_lines(int, config=LineConfig(encoding="utf-8-sig"))]

    assert [(item.text, item.offset) if isinstance(item, UndecodedLine) else item for item in items] == [("nope", 3), 1]
