"""One subscriber from its attachment to its end, whichever that is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

import procflow as pf
from tools.soak.consumers import consume
from tools.soak.readers import Ledger, World, pause, read_items, read_lines, wait_for_line

Reader: TypeAlias = Callable[[pf.OutputStream, Random, dict[str, Any], World], Coroutine[Any, Any, None]]
READERS: Final[tuple[Reader, ...]] = (read_items, read_items, read_lines, wait_for_line, consume, consume)


async def subscriber(stream: pf.OutputStream, name: str, world: World) -> None:
    """Attach at random, read at random, leave at random."""
    rng = world.random(name)
    for _ in range(rng.choice([0, 0, 1, 5, 40])):
        await checkpoint()
    delivery = draw_delivery(rng)
    options: dict[str, Any] = {"delivery": delivery, "name": name}
    if rng.random() < 0.2:
        options["last_bytes"] = rng.randint(0, 100_000)
    else:
        options["start"] = rng.choice(["unread", "unread", "start", "live", int(rng.random() * stream.produced_bytes)])
    read = rng.choice(READERS)
    with anyio.move_on_after(rng.choice([None, None, 0.001, 0.05, 0.3]) or float("inf")) as scope:
        try:
            await read(stream, rng, options, world)
        except pf.HistoryLostError as error:
            if read is not wait_for_line and (isinstance(delivery, pf.BestEffort) or error.lost_bytes <= 0):
                raise
        except pf.ClosedError:  # its scope was left before it could begin
            if read is not consume:
                raise
    world.tally.count("subscriber cancelled" if scope.cancelled_caught else "subscriber left")


async def timeline_subscriber(child: pf.Process, name: str, world: World) -> None:
    """Read both outputs as one, each of them checked by itself."""
    rng = world.random(name)
    pace_s, stop_after = rng.choice([0, 0.002]), rng.choice([None, rng.randint(1, 50)])
    with anyio.move_on_after(rng.choice([None, None, 0.01, 0.3]) or float("inf")):
        try:
            events = child.output.subscribe(
                draw_delivery(rng), start=rng.choice(["unread", "start", "live"]), name=name
            )
        except pf.HistoryLostError:
            return
        ledgers = {
            "stdout": Ledger(world, child.stdout, name),
            "stderr": Ledger(world, child.stderr, name),
        }
        count = 0
        async with events:
            try:
                while stop_after is None or count < stop_after:
                    batch = await events.receive_batch() if rng.random() < 0.5 else [await events.receive()]
                    for tagged in batch:
                        ledgers[tagged.source].take(tagged.item)
                    count += len(batch)
                    await pause(rng, pace_s)
            except (anyio.EndOfStream, pf.StreamClosedError, pf.StreamReadError):
                for ledger in ledgers.values():
                    ledger.end()
            except pf.StallError:
                pass
            finally:
                for source, numbers in events.statistics().items():
                    ledger = ledgers[source]
                    if numbers.delivered_bytes + numbers.lost_bytes != ledger.position - ledger.start:
                        ledger.fail(f"{numbers}, but {ledger.position - ledger.start} bytes were seen")


def draw_delivery(rng: Random) -> pf.Delivery:
    """A random delivery, of which half are reliable."""
    if rng.random() < 0.5:
        return pf.BestEffort(buffer_bytes=rng.choice([1, 100, 5000, 262_144]), loss=rng.choice(list(pf.Loss)))
    return pf.Reliable(
        buffer_bytes=rng.choice([1, 1000, 65_536, 1 << 20]),
        stall_timeout_s=rng.choice([None, 0.01, 0.1]),
        on_stall=rng.choice(list(pf.OnStall)),
    )
