"""Random subscribers that check everything they are given, to the byte.

What every source gives is one known pattern, so that bytes can be checked at any offset.  Every choice is drawn from generators that are seeded
by name, so that a round with the same seed makes the same choices, whatever the scheduling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Never, TypeAlias

import anyio

import procflow as pf

PERIOD_BYTES: Final = 65_521
"""A prime, so that no buffer or read has the period of the pattern."""

Item: TypeAlias = "pf.Chunk | pf.Gap"


class Pattern:
    """Printable lines of random length, the same in every process, for ever."""

    def __init__(self) -> None:
        rng = Random(20)
        self.period: Final = bytes(10 if rng.random() < 0.03 else rng.randint(32, 126) for _ in range(PERIOD_BYTES))
        self._twice = self.period * 2

    def at(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``."""
        begin, count = start % PERIOD_BYTES, stop - start
        if count <= PERIOD_BYTES:
            return self._twice[begin : begin + count]
        return (self.period * (count // PERIOD_BYTES + 2))[begin : begin + count]


@dataclass
class Tally:
    """What a round did."""

    children: int = 0
    sources: int = 0
    subscribers: int = 0
    delivered_bytes: int = 0
    lost_bytes: int = 0
    lines: int = 0
    endings: dict[str, int] = field(default_factory=dict)

    def count(self, ending: str) -> None:
        """Count one more ending of that kind."""
        self.endings[ending] = self.endings.get(ending, 0) + 1

    def add(self, other: Tally) -> None:
        """Add the numbers of another round."""
        for name in ("children", "sources", "subscribers", "delivered_bytes", "lost_bytes", "lines"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for ending, count in other.endings.items():
            self.endings[ending] = self.endings.get(ending, 0) + count


@dataclass
class World:
    """What all tasks of a round share."""

    seed: str
    pattern: Pattern
    pattern_path: Path
    tally: Tally = field(default_factory=Tally)
    failures: list[AssertionError] = field(default_factory=list)
    """What was wrong, also where nobody waits for whoever found it."""

    def random(self, name: str) -> Random:
        """A generator of its own for each task."""
        return Random(f"{self.seed}/{name}")


# --- what one subscriber was given -----------------------------------------------------------------------------------


class Ledger:
    """Follows one subscriber through its stream and checks everything it is given."""

    def __init__(self, world: World, stream: pf.OutputStream, name: str) -> None:
        self._world = world
        self._stream = stream
        self._name = name
        self.position = self.start = next(one.start for one in stream.statistics().subscribers if one.name == name)
        self._was_gap = False
        self._owes_newline = False
        world.tally.subscribers += 1

    def take(self, item: Item) -> None:
        """Check one item and go on behind it."""
        if isinstance(item, pf.Gap):
            if item.start != self.position or item.lost_bytes <= 0 or self._was_gap:
                self.fail(f"{item} at {self.position}")
            self._world.tally.lost_bytes += item.lost_bytes
        else:
            self.expect(item.offset, item.data)
            self._world.tally.delivered_bytes += len(item.data)
        self._was_gap = isinstance(item, pf.Gap)
        self.position = item.stop

    def expect(self, offset: int, data: bytes) -> None:
        """Check that ``data`` is what the pattern has at the position."""
        if offset != self.position:
            self.fail(f"offset {offset}, expected {self.position}")
        if data != self._world.pattern.at(offset, offset + len(data)):
            self.fail(f"{len(data)} bytes at {offset} are not those of the source")

    def take_line(self, line: str | pf.Gap) -> None:
        """Check one line, cut or whole, or a gap between lines."""
        if isinstance(line, pf.Gap):
            if line.start != self.position:  # a gap may have taken the end of a truncated line, its newline too
                self._take_newline()
            if line.start != self.position or line.lost_bytes <= 0:
                self.fail(f"{line} at {self.position}")
            self._owes_newline = False
            self.position = line.stop
            return
        self._take_newline()
        self._world.tally.lines += 1
        data = line.encode()
        self.expect(self.position, data)
        self.position += len(data) + (line.lost_bytes if isinstance(line, pf.CutLine) else 0)
        self._owes_newline = not (isinstance(line, pf.CutLine) and line.cut is pf.Cut.CONTINUES)

    def _take_newline(self) -> None:
        if self._owes_newline:
            self._owes_newline = False
            self.expect(self.position, b"\n")
            self.position += 1

    def settle(self, events: pf.Subscription) -> None:
        """Compare with the stream's own numbers: C-25."""
        numbers = events.statistics()
        given = numbers.delivered_bytes + numbers.lost_bytes
        if given != self.position - self.start:
            self.fail(f"{numbers}, but {self.position - self.start} bytes were seen")

    def end(self) -> None:
        """Everything that was produced must have been seen or reported."""
        if self.position < self._stream.produced_bytes:
            self._take_newline()
        if self.position != self._stream.produced_bytes:
            self.fail(f"ended at {self.position} of {self._stream.produced_bytes}")

    def fail(self, what: str) -> Never:
        """Say what is wrong with whom."""
        error = AssertionError(f"{self._name}, attached at {self.start}: {what}")
        self._world.failures.append(error)
        raise error


async def pause(rng: Random, pace_s: float) -> None:
    """Be as slow as this subscriber is."""
    if pace_s and rng.random() < 0.3:
        await anyio.sleep(rng.random() * pace_s)


async def read_items(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """Take chunks and gaps one by one, in batches, or without waiting."""
    takes_batches, drops = rng.random() < 0.5, rng.random() < 0.2
    pace_s, stop_after = rng.choice([0, 0, 0.002]), rng.choice([None, None, rng.randint(1, 50)])
    events = stream.subscribe(**options)
    ledger = Ledger(world, stream, options["name"])
    count = 0
    try:
        while stop_after is None or count < stop_after:
            try:
                items = await events.receive_batch() if takes_batches else [await events.receive()]
            except (anyio.EndOfStream, pf.StreamClosedError, pf.StreamReadError):
                ledger.end()
                break
            except pf.StallError:
                break
            if sum(isinstance(item, pf.Gap) for item in items) > 1:
                ledger.fail("two gaps in a batch")
            for item in items:
                ledger.take(item)
            count += len(items)
            await pause(rng, pace_s)
    finally:
        ledger.settle(events)
        if drops:
            del events
        else:
            events.close()


async def read_lines(stream: pf.OutputStream, rng: Random, options: dict[str, Any], world: World) -> None:
    """Take lines or batches of lines, of any maximal length."""
    overflow = rng.choice([pf.Overflow.SPLIT, pf.Overflow.TRUNCATE])
    config = pf.LineConfig(max_line_bytes=rng.choice([10, 80, 1 << 20]), overflow=overflow)
    pace_s, stop_after = rng.choice([0, 0, 0.002]), rng.choice([None, None, rng.randint(1, 500)])
    count = 0
    in_batches = rng.random() < 0.5
    reader = (stream.line_batches if in_batches else stream.lines)(config=config, **options)
    ledger = Ledger(world, stream, options["name"])
    async with reader:
        try:
            async for found in reader:
                batch = found if isinstance(found, list) else [found]
                for line in batch:
                    ledger.take_line(line)
                count += len(batch)
                if stop_after is not None and count >= stop_after:
                    return
                if in_batches or rng.random() < 0.01:
                    await pause(rng, pace_s)
        except (pf.StallError, pf.LinesLostError):
            return
        except (pf.StreamClosedError, pf.StreamReadError):
            pass
        ledger.end()


async def wait_for_line(stream: pf.OutputStream, rng: Random, _options: dict[str, Any], world: World) -> None:
    """Wait for a line that may or may not come."""
    world.tally.subscribers += 1
    try:
        match = await stream.wait_for_line(re.compile(rng.choice(["^[a-z]{3}", "Q.*Q", "impossible", ""])))
    except pf.NotReadyError:
        return
    text = match.text.encode()
    expected = world.pattern.at(match.stop - len(text) - 1, match.stop)
    tail = world.pattern.at(match.stop - len(text), match.stop)
    if text + b"\n" != expected and text != tail:
        raise AssertionError(f"the wait matched {match.text!r} before {match.stop}, where {expected!r} is")
