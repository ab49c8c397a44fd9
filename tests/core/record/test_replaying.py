"""Records told once more."""

from __future__ import annotations

import math
import os
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import Event, UnreadableRecordError, load, replay
from procflow.record.replaying import Timetable
from procflow.record.sinks.files import FileSink
from procflow.record.sinks.functions import FunctionSink
from procflow.record.sinks.port import Dropped, Sink
from procflow.testing import assert_no_leaks
from tests.core.record.sample import EVENTS, LINES, RECORD, job_finished, lines_of, sample, stamp_all

UNKNOWN = b'{"type":"from_tomorrow","seq":2,"at_ms":7,"mono_ns":2000000,"words":["a"]}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(RECORD)
    return path


class Heard(Sink):
    """Notes every line, and when it came."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.events: list[Event] = []
        self.at_s: list[float] = []

    def emit(self, line: bytes, event: Event) -> None:
        self.lines.append(line)
        self.events.append(event)
        self.at_s.append(anyio.current_time())

    def recover(self) -> Dropped | None:
        return None

    lost_count = 0
    failure = ""

    async def aclose(self) -> None:
        raise AssertionError("the sink is not the replay's")


def heard(file: Path, *, speed: float = 1.0, seek_s: float = 0.0) -> tuple[Heard, list[float]]:
    """Replay in virtual time; return what the sink heard, and after how many milliseconds."""
    sink = Heard()

    async def main() -> float:
        began_s = trio.current_time()
        assert await replay(file, sink, speed=speed, seek_s=seek_s) == len(sink.lines)
        return began_s

    began_s = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return sink, [round((at_s - began_s) * 1000, 3) for at_s in sink.at_s]


class TestTime:
    @pytest.mark.parametrize("speed", [0.001, 0.5, 1.0, 4.0])
    def test_delays_are_scaled(self, file: Path, speed: float) -> None:
        """RR-92: each event comes when it happened by ``mono_ns``, faster or slower; a step of the wall clock changes nothing."""
        sink, after_ms = heard(file, speed=speed)

        assert after_ms == pytest.approx([event.mono_ns / 1e6 / speed for event in EVENTS])
        assert sink.events == EVENTS

    def test_seek(self, file: Path) -> None:
        """RR-92: what was before comes at once and is not left out, and time passes from there."""
        sink, after_ms = heard(file, seek_s=0.01)

        assert sink.lines == LINES
        assert after_ms == pytest.approx([0.0] * 11 + [float(number) for number in range(1, len(LINES) - 10)])

    def test_at_once(self, file: Path) -> None:
        """RR-92: with infinite speed no time passes."""
        assert set(heard(file, speed=math.inf)[1]) == {0.0}

    @given(
        st.lists(st.integers(0, 2**63 - 1), max_size=20),
        st.floats(min_value=1e-6, allow_nan=False),
        st.floats(0, 1e9),
    )
    def test_the_timetable(self, moments: list[int], speed: float, seek_s: float) -> None:
        """RR-92: due times are never negative, and in the order of the moments, whatever speed and start."""
        timetable = Timetable(speed=speed, seek_s=seek_s)

        due = [timetable.due_s(mono_ns) for mono_ns in sorted(moments)]

        assert due == sorted(due)
        assert all(0 <= due_s < math.inf for due_s in due)

    @pytest.mark.parametrize(
        ("speed", "seek_s"), [(0, 0), (-1, 0), (math.nan, 0), (1, -1), (1, math.nan), (1, math.inf)]
    )
    def test_what_is_no_speed(self, speed: float, seek_s: float) -> None:
        """RR-92: nothing stands still, goes back, or begins nowhere."""
        with pytest.raises(ValueError, match="speed" if seek_s == 0 else "seek_s"):
            Timetable(speed=speed, seek_s=seek_s)


@pytest.mark.anyio
class TestSinks:
    async def test_byte_for_byte(self, file: Path, tmp_path: Path) -> None:
        """RR-92: with infinite speed the copy of a record is the record."""
        sink = FileSink(tmp_path / "copy" / "events.jsonl")
        assert await replay(file, sink, speed=math.inf) == len(LINES)
        await sink.aclose()

        assert sink.path.read_bytes() == RECORD

    async def test_a_damaged_record(self, file: Path, tmp_path: Path) -> None:
        """RR-92: events are reproduced byte for byte, unknown types too; what is no event, or was there before, is left out."""
        file.write_bytes(b"".join(LINES[:2]) + b"foreign\n\n" + UNKNOWN + LINES[0] + LINES[3] + b"torn")
        sink, events = FileSink(tmp_path / "copy.jsonl"), list[Event]()
        told = FunctionSink(events.append)
        sinks: list[Sink] = [sink, told]
        for each in sinks:
            assert await replay(file, each, speed=math.inf) == 4
            await each.aclose()

        assert sink.path.read_bytes() == b"".join([*LINES[:2], UNKNOWN, LINES[3]])
        assert events == [*EVENTS[:2], Event(seq=2, at_ms=7, mono_ns=2_000_000), EVENTS[3]]
        assert load(sink.path).jobs == load(file).jobs

    async def test_targets(self, file: Path, tmp_path: Path) -> None:
        """RR-26, RR-92: a text or a path says where to go, as it does for a run; what was opened is closed."""
        targets: list[str | Path] = [f"file:{tmp_path}/copy-0", str(tmp_path / "copy-1"), tmp_path / "copy-2"]
        async with assert_no_leaks():
            for number, target in enumerate(targets):
                assert await replay(file, target, speed=math.inf) == len(LINES)
                assert (tmp_path / f"copy-{number}").read_bytes() == RECORD
            assert await replay(file, "null", speed=math.inf) == len(LINES)
            with pytest.raises(FileExistsError):
                await replay(file, tmp_path / "copy-2")
            with pytest.raises(ValueError, match="no target"):
                await replay(file, "nowhere:x")

    async def test_a_function(self, file: Path) -> None:
        """RR-37, RR-92: it is called with each event, in order; what it raises ends nothing."""
        events: list[Event] = []

        def hear(event: Event) -> None:
            events.append(event)
            raise RuntimeError

        assert await replay(file, hear, speed=math.inf) == len(EVENTS)

        assert events == EVENTS

    async def test_a_slow_reader(self, file: Path) -> None:
        """RR-92: a replay waits for its reader; no line is lost."""
        source, target = os.pipe()
        file.write_bytes(
            b"".join(lines_of(stamp_all([*sample()[:-1], *[job_finished("lint")] * 20_000, sample()[-1]])))
        )

        async with anyio.create_task_group() as tasks:
            read: list[bytes] = []

            def read_all() -> None:
                with os.fdopen(source, "rb") as reader:
                    read.append(reader.read())

            tasks.start_soon(anyio.to_thread.run_sync, read_all)
            await replay(file, f"fd:{target}", speed=math.inf)
            os.close(target)

        assert read == [file.read_bytes()]

    async def test_a_sink_that_lost_something_goes_on(self, file: Path, tmp_path: Path) -> None:
        """RR-92: it counts what it lost, and takes what comes after it; no line of our own is among them."""
        sink = FileSink(tmp_path / "copy.jsonl")
        write, failures = sink._write, [1, 2]

        def fail_twice(data: bytes) -> str:
            if len(data) > 1 and failures:
                failures.pop()
                return "no space left on device"
            return write(data)

        sink._write = fail_twice  # type: ignore[method-assign]
        await replay(file, sink, speed=math.inf)
        await sink.aclose()

        assert sink.lost_count == 2
        assert sink.path.read_bytes().split() == b"".join(LINES[2:]).split()

    async def test_cancelled(self, file: Path) -> None:
        """RR-92: cancelled while it waits for the next event, it leaves nothing open."""
        async with assert_no_leaks():
            sink = Heard()
            with anyio.CancelScope() as scope:
                sink.emit = lambda line, event: scope.cancel()  # type: ignore[method-assign]
                await replay(file, sink, speed=1e-9)
            assert scope.cancelled_caught

    async def test_others_run_meanwhile(self, file: Path) -> None:
        """RR-92: a replay at once passes checkpoints like any other."""
        with anyio.CancelScope() as scope:
            scope.cancel()
            await replay(file, Heard(), speed=math.inf)
        assert scope.cancelled_caught

    async def test_no_record(self, tmp_path: Path) -> None:
        """RR-92: what cannot be read is told before anything is emitted."""
        with pytest.raises(UnreadableRecordError):
            await replay(tmp_path, Heard())
