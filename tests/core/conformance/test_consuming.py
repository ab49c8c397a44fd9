"""What the reference checks of consumers and writers, where ours have no test of their own yet."""

from __future__ import annotations

import pytest

import procflow as pf
from procflow._streams.consumers.collect import ByteCollector
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio


async def test_any_number_of_inspectors() -> None:
    """C-50: inspectors do not exclude each other; each sees everything, also beside a collector (TPT 43)."""
    first: list[str] = []
    second: list[str] = []
    async with pf.open_stream(ScriptedSource(b"a\nb\n", b"c", b"")) as stream:
        inspectors = [stream.consume(pf.Inspect.lines(seen.append)) for seen in (first, second)]
        collector = stream.consume(pf.Collect.head(100))
        for inspector in inspectors:
            assert (await inspector.wait()).value == 3
        assert (await collector.wait()).value.bytes == b"a\nb\nc"
    assert first == second == ["a", "b", "c"]


async def test_a_callback_may_map_and_write() -> None:
    """C-50: what is written, and with which delimiter, is for the callback to say (TPT 148, 150)."""
    written: list[str] = []
    async with pf.open_stream(ScriptedSource(b"a\nb\n", b"")) as stream:
        plain = stream.consume(pf.Inspect.lines(written.append))
        mapped = stream.consume(pf.Inspect.lines(lambda line: written.append(line.upper() + ";")))
        await plain.wait()
        await mapped.wait()
    assert sorted(written) == ["A;", "B;", "a", "b"]


@pytest.mark.parametrize("unit", ["chunks", "lines"])
async def test_a_failing_sink_of_a_callback_is_told(unit: str) -> None:
    """C-51: the error of the sink is the cause of what wait() raises; what came before it is counted (TPT 151)."""
    written: list[object] = []

    def write(item: object) -> None:
        if written:
            raise BrokenPipeError(32, "nobody reads")
        written.append(item)

    kind = pf.Inspect.chunks(write) if unit == "chunks" else pf.Inspect.lines(write)
    async with pf.open_stream(ScriptedSource(b"a\n", b"b\n", b"")) as stream:
        with pytest.raises(pf.ConsumerError) as caught:
            await stream.consume(kind).wait()
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    assert len(written) == 1


def test_the_newest_bytes_are_kept_without_moving_all_of_them_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-50: a full collector of the newest bytes moves its buffer once for as many bytes as it keeps (TPT D10)."""
    drops = 0
    drop = ByteCollector._drop

    def counted(self: ByteCollector, count: int) -> None:
        nonlocal drops
        drops += 1
        drop(self, count)

    monkeypatch.setattr(ByteCollector, "_drop", counted)
    collector = ByteCollector(0, head_bytes=0, tail_bytes=1000)
    for offset in range(100_000):
        collector.feed(pf.Chunk(b"%d" % (offset % 10), offset))

    assert drops <= 100_000 / 1000
    assert len(collector.value(is_complete=True).bytes) == 1000
