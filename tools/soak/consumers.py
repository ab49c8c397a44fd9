"""Random consumers that check everything they are given, to the byte."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio

import procflow as pf
from tools.soak.readers import Ledger, World, pause


async def consume(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """One consumer of a random kind, from its start to its end or to that of its scope."""
    kind = rng.choice([inspect_chunks, inspect_lines, collect, write])
    options["finish_s"] = rng.choice([0.0, 0.1, 20.0])
    with suppress(pf.ConsumerError):
        await kind(stream, rng, options, world)


async def end(consumer: pf.Consumer[Any], rng: Random) -> pf.Consumed[Any]:
    """Wait for it, cancel it, or abort it; its result, whichever it is.

    Raises:
        ConsumerError: It failed.
    """
    try:
        with anyio.move_on_after(rng.choice([0.001, 0.1, 1.0])):
            return await consumer.wait()
        if rng.random() < 0.3:
            consumer.abort()
        return await consumer.cancel(timeout_s=rng.choice([0.0, 0.01, 5.0]))
    finally:
        consumer.abort()


def check_sums(consumer: pf.Consumer[Any], ledger: Ledger) -> None:
    """The result of an ended consumer says what its callback saw, up to the item at hand."""
    result = consumer.result
    if result is None:
        return
    if result.start != ledger.start or result.delivered_bytes + result.lost_bytes != result.stop - result.start:
        ledger.fail(f"{result}")
    if result.ending is pf.ConsumerEnding.EOF:
        ledger.end()


async def inspect_chunks(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """A callback for chunks, sync or async."""
    ledgers: list[Ledger] = []
    pace_s = rng.choice([0, 0.002])

    def take(chunk: pf.Chunk) -> None:
        ledgers[0].take(chunk)

    async def take_slowly(chunk: pf.Chunk) -> None:
        ledgers[0].take(chunk)
        await pause(rng, pace_s)

    def gap(lost: pf.Gap) -> None:
        ledgers[0].take(lost)

    callback = rng.choice([take, take_slowly])
    consumer = stream.consume(pf.Inspect.chunks(callback, on_gap=gap), **options)
    ledgers.append(Ledger(world, stream, options["name"]))
    try:
        await end(consumer, rng)
    finally:
        check_sums(consumer, ledgers[0])
        if consumer.result is not None and consumer.result.stop != ledgers[0].position:
            ledgers[0].fail(f"{consumer.result}, but the callback has seen everything before {ledgers[0].position}")


async def inspect_lines(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """A callback for lines or batches of them."""
    ledgers: list[Ledger] = []

    def gap(lost: pf.Gap) -> None:
        ledgers[0].take_line(lost)

    def take(line: str) -> None:
        ledgers[0].take_line(line)

    def take_batch(lines: list[str]) -> None:
        for line in lines:
            ledgers[0].take_line(line)

    config = pf.LineConfig(max_line_bytes=rng.choice([10, 1 << 20]))
    kind = (
        pf.Inspect.lines(take, on_gap=gap, config=config)
        if rng.random() < 0.5
        else pf.Inspect.batches(take_batch, on_gap=gap, config=config)
    )
    consumer = stream.consume(kind, **options)
    ledgers.append(Ledger(world, stream, options["name"]))
    try:
        await end(consumer, rng)
    finally:
        check_sums(consumer, ledgers[0])


async def collect(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """Both ends of what comes; what lies between them, and what was lost, is in the gaps."""
    head, tail = rng.choice([0, 10, 50_000]), rng.choice([0, 10, 50_000])
    consumer = stream.consume(pf.Collect.ends(head_bytes=head, tail_bytes=tail), **options)
    ledger = Ledger(world, stream, options["name"])
    result = await end(consumer, rng)
    captured: pf.Captured = result.value
    if len(captured.bytes) + captured.lost_bytes != result.stop - result.start:
        ledger.fail(f"{len(captured.bytes)} + {captured.lost_bytes} bytes of {result}")
    ledger.position = result.stop
    check_sums(consumer, ledger)


async def write(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """A file, which must hold what the result says."""
    path = Path(world.pattern_path.parent) / f"{world.seed}-{options['name'].replace('/', '-')}"
    try:
        consumer = stream.pipe_to(path, **options)
        ledger = Ledger(world, stream, options["name"])
        result = await end(consumer, rng)
        data = path.read_bytes() if path.exists() else b""
        if len(data) != result.value.bytes_written and not result.value.failed_bytes:
            ledger.fail(f"the file has {len(data)} bytes, the result {result.value.bytes_written}")
        if not result.lost_bytes and data != world.pattern.at(result.start, result.start + len(data)):
            ledger.fail(f"the {len(data)} bytes of the file are not those of the source")
        ledger.position = result.stop
        check_sums(consumer, ledger)
    finally:
        path.unlink(missing_ok=True)
