"""What the reference checks of lines and of waits for them, held against ours."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

import procflow as pf
from procflow.policies import Overflow
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio

TRUNCATE = pf.LineConfig(max_line_bytes=4, overflow=Overflow.TRUNCATE)
SPLIT = pf.LineConfig(max_line_bytes=4, overflow=Overflow.SPLIT)


async def lines_of(config: pf.LineConfig, *chunks: bytes) -> list[str]:
    async with pf.open_stream(ScriptedSource(*chunks, b"")) as stream:
        return [line async for line in stream.lines(config=config)]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"1234\n\n"], ["1234", ""]),
        ([b"ok\n123456789\nnext\n"], ["ok", "1234", "next"]),
        ([b"123456789\nabcdefghi\n"], ["1234", "abcd"]),
        ([b"1234", b"5678", b"9\nok\n"], ["1234", "ok"]),
        ([b"12345678"], ["1234"]),
    ],
)
async def test_truncated_lines(chunks: list[bytes], lines: list[str]) -> None:
    """C-41: a long line is its first bytes and says how many are missing, over any border and up to EOF (TPT 99, 106, N3)."""
    found = await lines_of(TRUNCATE, *chunks)

    assert found == lines
    whole = b"".join(chunks).decode().splitlines()
    for line, full in zip(found, whole, strict=True):
        lost = line.lost_bytes if isinstance(line, pf.CutLine) else 0
        assert len(line) + lost == len(full)


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"123456789\nabcdefghi\n"], ["1234", "5678", "9", "abcd", "efgh", "i"]),
        ([b"1234\n"], ["1234"]),
        ([b"1234", b"\n"], ["1234"]),
        ([b"12345678\n"], ["1234", "5678"]),
        ([b"1234\n\n"], ["1234", ""]),
        ([b"12345678"], ["1234", "5678"]),
    ],
)
async def test_split_lines(chunks: list[bytes], lines: list[str]) -> None:
    """C-41: a long line is cut into pieces; no empty line is invented, a real one is kept (TPT 101, 102, N3)."""
    assert await lines_of(SPLIT, *chunks) == lines


async def test_characters_of_many_bytes_survive_single_bytes() -> None:
    """C-40: emoji with joiners and selectors, byte by byte (TPT 105, 112)."""
    text = "❤️ 👩‍💻 x \N{VARIATION SELECTOR-16}"
    data = f"{text}\n{text}".encode()
    assert await lines_of(pf.LineConfig(), *[data[i : i + 1] for i in range(len(data))]) == [text, text]


async def test_a_line_with_colons_is_one_line() -> None:
    """C-40: nothing but the delimiter has a meaning (TPT 98)."""
    assert await lines_of(pf.LineConfig(), b"key: value: more\n") == ["key: value: more"]


async def test_an_unusually_long_line_leaves_no_buffer_behind() -> None:
    """C-41: the memory of a line of 4 MiB is free again once it was given out and dropped (TPT 117)."""
    source = ScriptedSource(*[b"x" * 65536] * 64, b"\n", b"short\n")
    config = pf.StreamConfig(replay=pf.Replay.none())
    tracemalloc.start()
    try:
        async with pf.open_stream(source, config) as stream:
            lines = stream.lines(config=pf.LineConfig(max_line_bytes=8 << 20))
            assert len(await anext(lines)) == 4 << 20
            assert await anext(lines) == "short"
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 1 << 20
            source.send(b"")
            assert [line async for line in lines] == []
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("buffered", [b"two\n", b"two\nthree\n"])
async def test_a_gap_between_two_lines_costs_no_line_before_it(buffered: bytes) -> None:
    """C-42: bytes are lost exactly from one line's end to another's beginning: both lines are right, the gap between them (TPT N2)."""
    source = ScriptedSource(b"one\n", b"lost\n", buffered, b"")
    async with pf.open_stream(source, pf.StreamConfig(replay=pf.Replay.none())) as stream:
        lines = stream.lines(pf.BestEffort(buffer_bytes=len(buffered)))
        await stream.wait_ended()
        items = [item async for item in lines]

    gaps = [item for item in items if isinstance(item, pf.Gap)]
    assert len(gaps) == 1
    assert gaps[0].start == 0
    kept = [item for item in items if isinstance(item, str)]
    # Where the gap ends a line may have begun earlier, for all that its reader can know: it is counted as lost.
    assert kept == buffered.decode().splitlines()[1:]
    assert gaps[0].stop + sum(len(line) + 1 for line in kept) == stream.produced_bytes


async def test_a_gap_joins_nothing_into_a_match() -> None:
    """C-42: the halves of two lines on both sides of a gap are no line (TPT 107, 121, 157)."""
    source = ScriptedSource(b"re", b"x" * 50, b"ady\nlast\n", b"")
    async with pf.open_stream(source, pf.StreamConfig(replay=pf.Replay.none())) as stream:
        lines = stream.lines(pf.BestEffort(buffer_bytes=9))
        await stream.wait_ended()
        assert [item async for item in lines if isinstance(item, str)] == ["last"]


async def test_a_wait_finds_the_unterminated_last_line() -> None:
    """C-45: the rest without a newline counts as a line at EOF (TPT 155)."""
    async with pf.open_stream(ScriptedSource(b"starting\n", b"ready", b"")) as stream:
        assert (await stream.wait_for_line("^ready$")).text == "ready"


async def test_a_wait_tells_a_read_failure() -> None:
    """C-45: the source failed before the line came: NotReadyError, with the failure as its cause (TPT 158)."""
    async with pf.open_stream(ScriptedSource(b"starting\n", OSError(5, "boom"))) as stream:
        with pytest.raises(pf.NotReadyError) as caught:
            await stream.wait_for_line("ready")
        assert isinstance(caught.value.__cause__, pf.StreamReadError)
        assert caught.value.tail == b"starting\n"


async def test_a_wait_sees_lines_as_they_are_cut() -> None:
    """C-45: a bound for lines holds for a wait too: it finds what it leaves, and nothing behind it (TPT 159)."""
    async with pf.open_stream(ScriptedSource(b"123456 ready\n", b"")) as stream:
        assert (await stream.wait_for_line("^1234$", config=TRUNCATE)).text == "1234"
    async with pf.open_stream(ScriptedSource(b"123456 ready\n", b"")) as stream:
        with pytest.raises(pf.NotReadyError):
            await stream.wait_for_line("ready", config=TRUNCATE)
