"""One round of the soak: random children, sources and runs, with random subscribers and random endings."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

import procflow as pf
from procflow._process import leader
from procflow.testing import assert_no_leaks
from tools.soak.readers import PERIOD_BYTES, Pattern, Tally, World
from tools.soak.subscribers import subscriber, timeline_subscriber

ROUND_WAIT_S: Final = 120.0
"""A round that takes longer hangs."""

# --- sources in memory -----------------------------------------------------------------------------------------------


class PatternSource:
    """Gives the pattern in random pieces, with random pauses, to a random ending."""

    def __init__(self, rng: Random, pattern: Pattern) -> None:
        self._rng = rng
        self._pattern = pattern
        self._offset = 0
        self._total = rng.choice([0, 1, 5000, 500_000, 20_000_000])
        self._most = rng.choice([1, 80, 4096, 65_536]) if self._total < 1_000_000 else 65_536
        self._fails = rng.random() < 0.2

    async def receive(self) -> bytes:
        """Return the next piece."""
        if self._rng.random() < 0.05:
            await anyio.sleep(0.001)
        start, self._offset = self._offset, min(self._total, self._offset + self._rng.randint(1, self._most))
        if start == self._total and self._fails:
            raise OSError(5, "the source fails as planned")
        return self._pattern.at(start, self._offset)

    async def aclose(self) -> None:
        """Nothing is held."""
        await checkpoint()


def draw_config(rng: Random, world: World) -> pf.StreamConfig:
    """A random replay and read size."""
    replay = rng.choice(
        [
            pf.Replay.none(),
            pf.Replay.all(),
            pf.Replay.all(spill=world.pattern_path.parent),
            pf.Replay.last_bytes(rng.choice([1, 10_000, 1 << 20])),
            pf.Replay.last_chunks(rng.choice([1, 20])),
            pf.Replay.while_unsubscribed(rng.choice([100, 1 << 20])),
        ]
    )
    return pf.StreamConfig(replay=replay, read_bytes=rng.choice([1000, 16_384, 65_536]))


async def one_source(name: str, world: World) -> None:
    """A stream over a source in memory."""
    rng = world.random(name)
    world.tally.sources += 1
    async with anyio.create_task_group() as readers:
        source, config = PatternSource(rng, world.pattern), draw_config(rng, world)
        # What a consumer failed at is told to its block if it was cancelled while it waited for the consumer.
        with suppress(pf.ConsumerError):
            async with pf.open_stream(source, config, name=name) as stream:
                for number in range(rng.randint(0, 6)):
                    readers.start_soon(subscriber, stream, f"{name}/{number}", world)
                if rng.random() < 0.3:
                    stream.seal_replay()
                with anyio.move_on_after(rng.choice([0.01, 0.2, 1.0])):
                    await stream.wait_ended()
        world.tally.count(f"source {stream.ending.value if stream.ending else 'open'}")


# --- children --------------------------------------------------------------------------------------------------------

CHILD: Final = """
import os, random, signal, sys, time
path, seed, mode, total, manner = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
rng = random.Random(seed)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a traceback would not be of the pattern
if manner == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
period = open(path, "rb").read()
twice = period * 2
most = {"chatty": 65521, "tiny": 90, "bursts": 4096, "silent": 1}[mode]
done = {1: 0, 2: 0}
while mode != "silent" and (done[1] < total or done[2] < total):
    fd = rng.choice([fd for fd in done if done[fd] < total])
    count = min(rng.randint(1, most), total - done[fd])
    begin = done[fd] % len(period)
    done[fd] += os.write(fd, twice[begin:begin + count])
    if mode == "bursts" and rng.random() < 0.05:
        time.sleep(rng.random() * 0.02)
if mode == "silent":
    time.sleep(600)
if manner != "alone" and rng.random() < 0.3 and os.fork() == 0:  # holds the pipes
    time.sleep(rng.choice([0.05, 600]))
    os._exit(0)
os._exit(rng.choice([0, 0, 3]))
"""


ENOUGH_S: Final = 20.0
"""What every command of a round is done within; who runs out of it hangs."""


@contextmanager
def may_time_out(timeout_s: float | None) -> Iterator[None]:
    """Let ``TimedOut`` pass unless there was time enough."""
    try:
        yield
    except pf.TimedOut:
        if timeout_s is None or timeout_s >= ENOUGH_S:
            raise


class PlannedError(Exception):
    """Raised in a block to leave it by an exception."""


async def end_child(child: pf.Process, rng: Random, world: World) -> None:
    """End the block in a random way; returning leaves it."""
    with anyio.move_on_after(rng.choice([0.0, 0.05, 0.5, 3.0])):
        await child.wait()
    ending = rng.choice(["leave", "leave", "terminate", "kill", "SIGKILL", "raise", "detach", "cancel a stop"])
    world.tally.count(ending)
    if ending == "terminate":
        await child.terminate()
    elif ending == "kill":
        await child.kill()
    elif ending == "SIGKILL":
        child.send_signal(signal.SIGKILL)
        await child.wait()
    elif ending == "raise":
        raise PlannedError
    elif ending == "detach":
        await child.detach()
    elif ending == "cancel a stop":
        with anyio.move_on_after(0.005):
            await child.terminate()


@asynccontextmanager
async def ended_if_detached(children: list[pf.Process]) -> AsyncIterator[None]:
    """Kill what was let go, so that the round leaves nothing."""
    try:
        yield
    finally:
        for child in children:
            if child.state is pf.ProcessState.DETACHED:
                # The leader is held unreaped until reap_abandoned(), or was reaped together with the end of its group.
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


async def one_child(name: str, world: World) -> None:
    """One child with its subscribers."""
    rng = world.random(name)
    world.tally.children += 1
    mode = rng.choice(["chatty", "chatty", "tiny", "tiny", "bursts", "silent"])
    total = {"chatty": rng.randint(0, 20_000_000), "tiny": rng.randint(0, 100_000), "bursts": 200_000, "silent": 0}[
        mode
    ]
    deaf = "deaf" if rng.random() < 0.2 else "obedient"
    arguments = [str(world.pattern_path), f"{world.seed}/{name}", mode, str(total), deaf]
    command = pf.Command(sys.executable, "-I", "-S", "-c", CHILD, *arguments, name=name)
    shutdown = pf.Shutdown.sigterm(rng.choice([0.0, 0.1]), kill_wait_s=20.0)
    children: list[pf.Process] = []
    scope_s = rng.choice([None, None, None, 0.0, 0.05, 0.5])
    async with ended_if_detached(children):
        with anyio.move_on_after(float("inf") if scope_s is None else scope_s) as scope:
            async with anyio.create_task_group() as readers:
                with suppress(PlannedError, pf.ConsumerError):
                    async with pf.spawn(
                        command, stdout=draw_config(rng, world), stderr=draw_config(rng, world), shutdown=shutdown
                    ) as child:
                        children.append(child)
                        for number in range(rng.randint(0, 5)):
                            stream = rng.choice([child.stdout, child.stderr])
                            readers.start_soon(subscriber, stream, f"{name}/{number}", world)
                        if rng.random() < 0.3:
                            readers.start_soon(timeline_subscriber, child, f"{name}/both", world)
                        await end_child(child, rng, world)
                check_ended(children, total)
        if scope.cancelled_caught:
            world.tally.count("scope cancelled")
        check_ended(children, total)


def check_ended(children: list[pf.Process], total: int) -> None:
    """A child that was left is gone; if it came to its own end, every byte of it was read, unless nobody was to read on."""
    for child in children:
        outcome = child.outcome
        for stream in (child.stdout, child.stderr):
            if stream.produced_bytes > total:
                raise AssertionError(f"{stream.name}: {stream.produced_bytes} bytes of {total}")
            is_whole = stream.ending is pf.StreamEnding.EOF and outcome is not None and outcome.signal is None
            if is_whole and stream.produced_bytes != total:
                raise AssertionError(f"{stream.name} ended with {stream.produced_bytes} bytes of {total}")


async def one_run(name: str, world: World) -> None:
    """One run() of a child, perhaps with a deadline that it misses."""
    rng = world.random(name)
    world.tally.children += 1
    total = rng.choice([0, 1000, 2_000_000])
    arguments = [
        str(world.pattern_path),
        f"{world.seed}/{name}",
        rng.choice(["chatty", "bursts"]),
        str(total),
        "obedient",
    ]
    command = pf.Command(sys.executable, "-I", "-S", "-c", CHILD, *arguments, name=name)
    timeout_s = rng.choice([0.02, 0.2, ENOUGH_S])
    with may_time_out(timeout_s):
        done = await pf.run(command, timeout_s=timeout_s, drain_s=0.1, check=False)
        for captured in (done.stdout, done.stderr):
            if captured.bytes != world.pattern.at(captured.lost_bytes, captured.lost_bytes + len(captured.bytes)):
                raise AssertionError(f"{name}: what was kept is not the end of what was written")
            if done.outcome.output_complete and captured.lost_bytes + len(captured.bytes) != total:
                raise AssertionError(f"{name}: {captured.lost_bytes} + {len(captured.bytes)} bytes of {total}")


async def one_fed(name: str, world: World) -> None:
    """One `cat` that is fed in a random way; what comes out is the beginning of what went in, or all of it."""
    rng = world.random(name)
    world.tally.children += 1
    total = rng.choice([0, 1, 100_000, 3_000_000])
    data = world.pattern.at(0, total)

    def pieces() -> Iterator[bytes]:
        for start in range(0, total, 30_000):
            yield data[start : start + 30_000]

    async def slow_pieces() -> AsyncIterator[bytes]:
        for piece in pieces():
            await anyio.sleep(0.001)
            yield piece

    choices: list[Any] = [data, data.decode(), pieces(), slow_pieces()]
    stdin = rng.choice(choices)
    config = pf.StreamConfig(replay=pf.Replay.all())
    timeout_s = rng.choice([0.02, ENOUGH_S])
    with may_time_out(timeout_s), anyio.move_on_after(rng.choice([None, None, 0.005]) or float("inf")):
        done = await pf.run(pf.Command("cat", name=name), stdin=stdin, stdout=config, timeout_s=timeout_s, check=False)
        if done.stdout.bytes != data:
            raise AssertionError(f"{name}: {len(done.stdout.bytes)} bytes came back of {total}")


async def one_pipeline(name: str, world: World) -> None:
    """Three stages, of which the last may stop reading; what it gives is the beginning of what the first one wrote."""
    rng = world.random(name)
    world.tally.children += 3
    total = rng.choice([0, 1000, 5_000_000])
    most = rng.choice([10, 200_000, 1 << 30])
    arguments = [str(world.pattern_path), f"{world.seed}/{name}", "chatty", str(total), "alone"]
    first = pf.Command(sys.executable, "-I", "-S", "-c", CHILD, *arguments, name=name)
    pipeline = first | pf.Command("cat") | pf.Command("head", "-c", str(most))
    timeout_s = rng.choice([0.05, ENOUGH_S])
    with may_time_out(timeout_s), anyio.move_on_after(rng.choice([None, None, 0.03]) or float("inf")):
        done = await pf.run(pipeline, timeout_s=timeout_s, drain_s=0.1, check=False)
        captured, whole = done.stdout, min(total, most)
        if captured.bytes != world.pattern.at(captured.lost_bytes, captured.lost_bytes + len(captured.bytes)):
            raise AssertionError(f"{name}: what came out is not what was written")
        if done.outcome.output_complete and captured.lost_bytes + len(captured.bytes) != whole:
            raise AssertionError(f"{name}: {captured.lost_bytes} + {len(captured.bytes)} bytes of {whole}")


async def one_terminal(name: str, world: World) -> None:
    """A child on a terminal: its last bytes always arrive."""
    rng = world.random(name)
    world.tally.children += 1
    total = rng.choice([0, 1, 5000, PERIOD_BYTES])
    command = pf.Command("head", "-c", str(total), str(world.pattern_path), name=name)
    timeout_s = rng.choice([0.003, ENOUGH_S])
    with may_time_out(timeout_s), anyio.move_on_after(rng.choice([None, None, 0.002]) or float("inf")):
        done = await pf.run(command, pty=pf.Pty(raw=True), timeout_s=timeout_s, check=False)
        if done.stdout.bytes != world.pattern.at(0, total):
            raise AssertionError(f"{name}: {len(done.stdout.bytes)} bytes came out of {total}")


async def one_native(name: str, world: World) -> None:
    """A child whose task is cancelled by asyncio itself, once or twice; on trio a child like all others."""
    rng = world.random(f"{name}/cancel")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await one_child(name, world)
        return
    task = asyncio.create_task(one_child(name, world))  # noqa: TID251 (native cancellation is the point)
    delays_s = [rng.choice([0.0, 0.02, 0.2, 1.0]), rng.choice([None, 0.0, 0.001, 0.05])]
    for delay_s in delays_s:
        if delay_s is not None:
            await asyncio.wait({task}, timeout=delay_s)
            task.cancel()
    await asyncio.wait({task}, timeout=ENOUGH_S)
    if not task.done():
        raise AssertionError(f"{name}: still ending {ENOUGH_S:g} s after its cancellation")
    if not task.cancelled():
        task.result()
    world.tally.count("native cancel" if task.cancelled() else "native cancel too late")


# --- the round -------------------------------------------------------------------------------------------------------


WORK: Final = (
    (one_child, 6),
    (one_source, 6),
    (one_run, 3),
    (one_fed, 3),
    (one_pipeline, 2),
    (one_terminal, 2),
    (one_native, 2),
)
"""What a round does, and how many of each at most."""


async def soak_round(seed: str, pattern: Pattern, pattern_path: Path) -> Tally:
    """Run one round and return what it did.

    Raises:
        Exception: Whatever is wrong.
    """
    world = World(seed, pattern, pattern_path)
    rng = world.random("round")
    async with assert_no_leaks(settle_s=20.0):
        with anyio.fail_after(ROUND_WAIT_S):
            async with anyio.create_task_group() as tasks:
                for kind, most in WORK:
                    for number in range(rng.randint(1, most)):
                        tasks.start_soon(kind, f"{kind.__name__}-{number}", world)
            for _ in range(
                3
            ):  # a spilled history is open as long as its stream, which the loop holds while it reaps what was dropped
                gc.collect()
                await anyio.sleep(0.001)
            while is_any_detached_alive():  # noqa: ASYNC110 (nobody tells us)
                await anyio.sleep(0.001)
    if world.failures:
        raise world.failures[0]
    return world.tally


def is_any_detached_alive() -> bool:
    """Reap what was detached; return whether some of it still runs."""
    leader.reap_abandoned()
    return bool(leader._abandoned)  # noqa: SLF001 (what this file watches)
