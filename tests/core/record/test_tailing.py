"""Records read while they are written."""

from __future__ import annotations

import gc
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

import procflow as pf
from procflow.record import (
    Line,
    RecordState,
    Unknown,
    UnreadableRecordError,
    ingest,
    load,
    record_from,
    records_in,
    runs_in,
    tail,
)
from procflow.record.reading.states import Writer
from procflow.record.tailing import QUIET_S, GrowthWatch, Tail
from procflow.testing import assert_no_leaks
from tests.core.record.sample import EVENTS, LINES, RECORD
from tests.core.record.writers import RecordWriter, record_writer

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="flock is needed")]

LIMIT_S = 60


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def writer(file: Path) -> Iterator[RecordWriter]:
    with record_writer(file) as made:
        yield made


async def take(lines: Tail, count: int) -> list[object]:
    with anyio.fail_after(LIMIT_S):
        return [(await lines.receive()).event for _ in range(count)]


async def rest(lines: Tail) -> list[object]:
    with anyio.fail_after(LIMIT_S):
        return [line.event async for line in lines]


class TestWhatComes:
    async def test_what_is_there_and_then_what_comes(self, file: Path, writer: RecordWriter) -> None:
        """RR-62: events already there, new ones as they are written, and the end by itself after the last one."""
        writer.write(b"".join(LINES[:5]))
        async with tail(file.parent) as lines:
            assert await take(lines, 5) == EVENTS[:5]
            for number in range(5, len(LINES)):
                writer.write(LINES[number])
                assert await take(lines, 1) == [EVENTS[number]]
            assert await rest(lines) == []
            assert lines.state is RecordState.FINISHED

    async def test_never_a_partial_line(self, file: Path, writer: RecordWriter) -> None:
        """RR-62: the beginning of a line is no event, however long its end takes."""
        writer.write(LINES[0] + LINES[1][:30])
        async with tail(file) as lines:
            assert await take(lines, 1) == EVENTS[:1]
            with anyio.move_on_after(0.3) as waited:  # several looks
                await lines.receive()
            assert waited.cancelled_caught
            assert lines.health.torn_bytes == 30
            writer.write(LINES[1][30:])
            assert await take(lines, 1) == EVENTS[1:2]

    async def test_from_any_number(self, file: Path) -> None:
        """RR-64: a tail can start at any number, also behind the end."""
        file.write_bytes(RECORD)

        for seq in range(len(EVENTS) + 2):
            assert await rest(tail(file, from_seq=seq)) == EVENTS[seq:]

    async def test_all_see_the_same(self, file: Path, writer: RecordWriter) -> None:
        """RR-64: two tails and an ingest at once, while it is written."""
        seen: dict[str, list[Line]] = {"first": [], "second": []}
        database = file.with_name("runs.db")
        written = anyio.Event()

        async def follow(name: str) -> None:
            async for line in tail(file):
                seen[name].append(line)

        async def ingest_again_and_again() -> None:
            while not written.is_set():
                await anyio.to_thread.run_sync(ingest, file, database)
            await anyio.to_thread.run_sync(ingest, file, database)

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow, "first")
                tasks.start_soon(follow, "second")
                tasks.start_soon(ingest_again_and_again)
                for start in range(0, len(RECORD), 97):
                    await anyio.to_thread.run_sync(writer.write, RECORD[start : start + 97])
                written.set()

        assert seen["first"] == seen["second"]
        assert [line.event for line in seen["first"]] == EVENTS
        [run] = runs_in(database)
        assert b"".join(record_from(database, run.run_id)) == RECORD

    async def test_damage_costs_its_line(self, file: Path) -> None:
        """RR-40, RR-62: foreign text and unknown types do not end a tail."""
        unknown = b'{"type":"from_tomorrow","seq":1,"at_ms":1,"mono_ns":1}\n'
        file.write_bytes(LINES[0] + b"foreign\n" + unknown + b"".join(LINES[2:]))
        async with tail(file) as lines:
            found = await rest(lines)

        assert isinstance(found[1], Unknown)
        assert len(found) == len(LINES)
        assert (lines.health.corrupt, lines.health.unknown) == (1, 1)

    async def test_a_packed_record(self, file: Path) -> None:
        """RR-38, RR-62: read like any other, also one that is cut short."""
        packed = gzip.compress(RECORD)
        for data, least in ((packed, len(LINES)), (packed[:-200], 1)):
            (file.parent / "events.jsonl.gz").write_bytes(data)
            found = await rest(tail(file.parent))
            assert found == EVENTS[: len(found)]
            assert len(found) >= least


class TestItsEnd:
    async def test_a_writer_that_dies(self, file: Path, writer: RecordWriter) -> None:
        """RR-62: the writer is gone and nothing grows: the tail ends, and says that the run crashed."""
        writer.write(b"".join(LINES[:8]) + LINES[8][:20])
        async with tail(file) as lines:
            assert await take(lines, 8) == EVENTS[:8]
            while_it_lives = lines.state
            writer.kill()
            assert await rest(lines) == []

            assert (while_it_lives, lines.state) == (RecordState.RUNNING, RecordState.CRASHED)
            with pytest.raises(anyio.EndOfStream):
                await lines.receive()

    async def test_what_a_dead_writer_wrote_last(self, file: Path, writer: RecordWriter) -> None:
        """RR-62: what was written between the last look and the death is not lost."""
        writer.write(LINES[0])
        async with tail(file) as lines:
            assert await take(lines, 1) == EVENTS[:1]
            writer.write(b"".join(LINES[1:9]))
            writer.kill()

            assert await rest(lines) == EVENTS[1:9]

    def test_a_quiet_writer_is_waited_for(self, file: Path, writer: RecordWriter) -> None:
        """RR-65: half an hour of silence, in virtual time, does not end the tail of a living writer."""
        writer.write(LINES[0])

        async def main() -> None:
            async with tail(file) as lines:
                assert (await lines.receive()).event == EVENTS[0]
                began_s = anyio.current_time()
                with anyio.move_on_after(1800):
                    await lines.receive()
                assert anyio.current_time() - began_s >= 1800
                writer.write(b"".join(LINES[1:]))
                assert [line.event async for line in lines] == EVENTS[1:]

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    @given(st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.sampled_from(Writer)), max_size=30))
    def test_when_it_is_over(self, looks: list[tuple[float, bool, Writer]]) -> None:
        """RR-62, RR-65: only the end of the run, or a second without growth and without a writer, ends a tail."""
        now_s = grown_at_s = 0.0
        watch = GrowthWatch(now_s)
        for passed_s, has_grown, writer in looks:
            now_s += passed_s
            if has_grown:
                watch.note_growth(now_s)
                grown_at_s = now_s
            else:
                is_late = now_s - grown_at_s >= QUIET_S
                assert watch.is_over(now_s, is_finished=False, writer=writer) is (writer is Writer.GONE and is_late)
            assert watch.is_over(now_s, is_finished=True, writer=writer)

    def test_bytes_that_are_late(self, file: Path) -> None:
        """RR-62: a copy in progress has no writer, and is read to its end if it does not pause for a second."""
        file.write_bytes(LINES[0])

        async def main() -> None:
            found: list[object] = []

            async def copy() -> None:
                for line in LINES[1:-1]:
                    await anyio.sleep(0.9)
                    with file.open("ab") as more:
                        more.write(line)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy)
                found += [line.event async for line in tail(file)]
            assert found == EVENTS[:-1]

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class TestWhatIsLeftOpen:
    async def test_nothing_after_the_end(self, file: Path) -> None:
        """RR-62: a loop that ran to its end leaves no descriptor, nor does one that was left or cancelled."""
        file.write_bytes(RECORD)
        async with assert_no_leaks():
            ended = tail(file)
            assert await rest(ended) == EVENTS
            async with tail(file) as lines:
                async for _ in lines:
                    break
            async for _ in tail(file):
                break
            async with aclosing(tail(file)) as lines:
                await lines.receive()
            gc.collect()

    async def test_a_cancelled_wait_goes_on(self, file: Path, writer: RecordWriter) -> None:
        """RR-62: cancelling loses no event, and the tail is still good."""
        writer.write(LINES[0])
        async with tail(file) as lines:
            assert await take(lines, 1) == EVENTS[:1]
            with anyio.CancelScope() as scope:
                scope.cancel()
                await lines.receive()
            writer.write(b"".join(LINES[1:]))
            assert await rest(lines) == EVENTS[1:]

    async def test_closed(self, file: Path) -> None:
        """RR-62: closed twice, and used after it."""
        file.write_bytes(RECORD)
        lines = tail(file)
        await lines.aclose()
        await lines.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await lines.receive()

    async def test_one_reader_at_a_time(self, file: Path, writer: RecordWriter) -> None:
        """RR-62: a second task is told so."""
        async with tail(file) as lines, anyio.create_task_group() as tasks:
            tasks.start_soon(lines.receive)
            for _ in range(5):
                await checkpoint()
            with pytest.raises(anyio.BusyResourceError):
                await lines.receive()
            tasks.cancel_scope.cancel()

    async def test_what_cannot_be_read(self, file: Path) -> None:
        """RR-10, RR-62: no record, and one of a release to come."""
        with pytest.raises(UnreadableRecordError):
            tail(file)
        file.write_bytes(b'{"type":"run_started","format":[2,0],"seq":0,"at_ms":0,"mono_ns":0}\n')
        async with assert_no_leaks():
            lines = tail(file)
            with pytest.raises(UnreadableRecordError, match=r"2\.0"):
                await lines.receive()

    async def test_a_file_that_is_replaced(self, file: Path, writer: RecordWriter) -> None:
        """RR-56, RR-62: what was opened is read to its end, not what has its name now."""
        writer.write(b"".join(LINES[:3]))
        async with tail(file) as lines:
            assert await take(lines, 3) == EVENTS[:3]
            other = file.with_name("other")
            other.write_bytes(b"".join(LINES[:9]))
            os.replace(other, file)
            writer.write(LINES[3] + LINES[-1])
            assert await rest(lines) == [EVENTS[3], EVENTS[-1]]


RECORDER = """
import sys
import anyio
from procflow.record import open_run

async def main():
    async with open_run("nightly", record=sys.argv[1]) as run, run.job("build") as job:
        await job.sh("true")
        await job.sh("sleep", "600")

anyio.run(main)
"""
FOLLOWER = """
import sys
import anyio
from procflow.record import tail

async def main():
    async for line in (lines := tail(sys.argv[1])):
        print(line.head.seq, line.event.__struct_config__.tag, flush=True)
    print(lines.state.value, flush=True)

anyio.run(main)
"""


async def test_acceptance_live(tmp_path: Path) -> None:
    """RR-43, RR-53, RR-62, RR-63: a second process tails while the run goes on; after kill -9 it sees the crash, and the open call is named."""
    with anyio.fail_after(LIMIT_S), subprocess.Popen([sys.executable, "-c", RECORDER, tmp_path]) as recorder:
        try:
            while not (found := records_in(tmp_path)):
                await anyio.sleep(0.01)
            async with pf.spawn(pf.Command(sys.executable, "-c", FOLLOWER, found[0].path)) as child:
                said = child.stdout.lines()
                words: list[str] = []
                while not words or words.count("sh_spawned") < 2:
                    number, word = (await anext(said)).split()
                    assert int(number) == len(words)
                    words.append(word)
                running = load(found[0].path)
                recorder.kill()
                rest_said = [line async for line in said]
        finally:
            recorder.kill()

    assert words == [
        "run_started",
        "job_started",
        *["sh_started", "sh_spawned", "sh_finished"],
        *["sh_started", "sh_spawned"],
    ]
    assert rest_said == ["crashed"]
    assert running.state is RecordState.RUNNING
    [crashed] = records_in(tmp_path)
    view = load(crashed.path)
    assert (crashed.state, crashed.name, view.state) == (RecordState.CRASHED, "nightly", RecordState.CRASHED)
    assert [(call.job_id, call.cmd, call.outcome) for call in view.open_calls] == [("build", "sleep 600", "lost")]
