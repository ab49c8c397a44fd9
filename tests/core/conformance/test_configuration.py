"""What the reference checks of configurations, held against ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

import procflow as pf
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio

TALK = pf.shell("echo out 1; echo out 2; echo err 1 >&2; echo err 2 >&2")


@pytest.mark.parametrize("delivery", [pf.Reliable(buffer_bytes=7), pf.BestEffort(buffer_bytes=7)])
@pytest.mark.parametrize("config", [pf.StreamConfig(), pf.StreamConfig(replay=pf.Replay.last_chunks(3), read_bytes=5)])
async def test_a_configuration_is_what_was_chosen(config: pf.StreamConfig, delivery: pf.Delivery) -> None:
    """C-52: a stream reports its configuration, a subscriber its delivery (TPT 1, 6)."""
    async with pf.open_stream(ScriptedSource(b""), config) as one, pf.open_stream(ScriptedSource(b""), config) as other:
        async with one.subscribe(delivery) as events:
            assert one.config is config is other.config
            assert events.statistics().is_reliable == isinstance(delivery, pf.Reliable)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: pf.StreamConfig(read_bytes=0), "read_bytes"),
        (lambda: replace(pf.StreamConfig(), read_bytes=0), "read_bytes"),
        (lambda: pf.Reliable(buffer_bytes=0), "buffer_bytes"),
        (lambda: pf.BestEffort(buffer_bytes=0), "buffer_bytes"),
        (lambda: replace(pf.BestEffort(), buffer_bytes=0), "buffer_bytes"),
        (lambda: pf.Replay.last_chunks(0), "replay"),
        (lambda: pf.Replay.last_bytes(0), "replay"),
        (lambda: pf.Replay.while_unsubscribed(0), "replay"),
        (lambda: replace(pf.Replay.last_bytes(1), bound=0), "replay"),
        (lambda: pf.LineConfig(max_line_bytes=0), "max_line_bytes"),
    ],
)
def test_zero_is_refused_by_name(make: Callable[[], object], name: str) -> None:
    """C-52: a size of zero is refused where it is written, also in a changed copy; the message says which (TPT 2 to 5, 103, 119)."""
    with pytest.raises(ValueError, match=name):
        make()


async def test_both_outputs_may_share_a_configuration() -> None:
    """C-52: one configuration for both outputs; both have their lines (TPT 7)."""
    config = pf.StreamConfig(read_bytes=3)
    async with pf.spawn(TALK, stdout=config, stderr=config) as child:
        assert child.stdout.config is child.stderr.config is config
        assert [line async for line in child.stdout.lines()] == ["out 1", "out 2"]
        assert [line async for line in child.stderr.lines()] == ["err 1", "err 2"]


async def test_each_output_may_have_sizes_of_its_own() -> None:
    """C-52: reads of one size on one output and of another on the other, down to a byte (TPT 8)."""
    small = pf.StreamConfig(read_bytes=1, replay=pf.Replay.last_chunks(100))
    async with pf.spawn(TALK, stdout=small, stderr=pf.StreamConfig(read_bytes=4)) as child:
        async with child.stdout.subscribe() as events:
            sizes = [len(event.data) async for event in events if isinstance(event, pf.Chunk)]
        assert sum(sizes) == 12
        assert [line async for line in child.stderr.lines()] == ["err 1", "err 2"]


@pytest.mark.parametrize("sealed", [["stdout"], ["stderr"], ["stdout", "stderr"]])
async def test_sealing_is_for_each_output(sealed: list[str]) -> None:
    """C-52: what is sealed forgets its history, the other keeps it; who was attached gets everything (TPT 9, 10, 12, 13, 216)."""
    replays = {"stdout": pf.Replay.all(), "stderr": pf.Replay.last_bytes(100)}
    configs = {name: pf.StreamConfig(replay=replay) for name, replay in replays.items()}
    async with pf.spawn(TALK, stdout=configs["stdout"], stderr=configs["stderr"]) as child:
        streams = {"stdout": child.stdout, "stderr": child.stderr}
        readers = {name: stream.lines() for name, stream in streams.items()}
        for stream in streams.values():
            await stream.wait_ended()
        for name in sealed:
            streams[name].seal_replay()
            streams[name].seal_replay()

        for name, stream in streams.items():
            assert stream.retained() == ((b"", 12) if name in sealed else (f"{name[3:]} 1\n{name[3:]} 2\n".encode(), 0))
            assert [line async for line in readers[name]] == [f"{name[3:]} 1", f"{name[3:]} 2"]


async def test_each_output_may_be_delivered_its_own_way() -> None:
    """C-52: a reliable reader of one output, a best-effort one of the other, to the end of both (TPT 11)."""
    async with pf.spawn(TALK) as child:
        reliable, best = child.stdout.lines(pf.Reliable()), child.stderr.lines(pf.BestEffort())
        assert [line async for line in reliable] == ["out 1", "out 2"]
        assert [line async for line in best] == ["err 1", "err 2"]
        assert (await child.wait()).ok


@pytest.mark.parametrize("kept", ["stdout", "stderr", None])
async def test_outputs_may_be_thrown_away(kept: str | None) -> None:
    """C-52: what is thrown away is empty, the other is collected, and the end is seen (TPT 14 to 16)."""
    done = await pf.run(
        TALK,
        stdout=pf.StreamConfig() if kept == "stdout" else pf.NULL,
        stderr=pf.StreamConfig() if kept == "stderr" else pf.NULL,
    )

    assert done.outcome.ok
    assert done.stdout.lines == (["out 1", "out 2"] if kept == "stdout" else [])
    assert done.stderr.lines == (["err 1", "err 2"] if kept == "stderr" else [])


async def test_any_stream_may_be_consumed_by_the_same_code() -> None:
    """C-52: code that takes an ``OutputStream`` does not care whose it is; an empty one ends at once (TPT 17)."""

    async def count(stream: pf.OutputStream) -> int:
        async with stream.subscribe(start="start") as events:
            return sum([len(event.data) async for event in events if isinstance(event, pf.Chunk)])

    with anyio.fail_after(20):
        async with pf.spawn(TALK) as child, pf.open_stream(ScriptedSource(b"memory", b"")) as memory:
            async with pf.open_stream(ScriptedSource(b"")) as empty:
                assert [await count(s) for s in (child.stdout, child.stderr, memory, empty)] == [12, 12, 6, 0]
