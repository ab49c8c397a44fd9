"""Records on disk: what they are, and that nobody changes them."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from procflow.record.errors import UnreadableRecordError
from procflow.record.fold.rows import CallKey
from procflow.record.fold.view import view_of
from procflow.record.loading import load, read_events, state_of
from procflow.record.reading.files import BLOCK_BYTES, open_record
from procflow.record.reading.liveness import boot_id, start_ticks, writer_by_pid
from procflow.record.reading.reader import Position, RecordReader
from procflow.record.reading.states import RecordState, Writer, record_state
from tests.core.record.sample import EVENTS, LINES, RECORD, header, lines_of, stamp_all
from tests.core.record.writers import record_writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flock and /proc are needed")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


class TestState:
    def test_running_then_crashed(self, file: Path) -> None:
        """RR-42, RR-43, RR-53: a quiet writer that lives is running; after SIGKILL the record has crashed, open call named."""
        with record_writer(file) as writer:
            assert state_of(file) is RecordState.RUNNING  # before the first line
            writer.write(b"".join(LINES[:8]) + LINES[8][:20])
            running = load(file)
            writer.kill()
            crashed = load(file)

        assert (running.state, crashed.state) == (RecordState.RUNNING, RecordState.CRASHED)
        assert [call.cmd for call in running.open_calls] == ["make -j4"]
        assert running.calls[CallKey("build", 1, 1)].is_open
        assert [(call.cmd, call.outcome) for call in crashed.open_calls] == [("make -j4", "lost")]
        assert crashed.health.torn_bytes == 20

    def test_finished(self, file: Path) -> None:
        """RR-43: the terminal event decides, whether the writer lives or not."""
        with record_writer(file) as writer:
            writer.write(RECORD)
            assert load(file).state is RecordState.FINISHED
            writer.kill()

        assert load(file) == view_of(EVENTS, state=RecordState.FINISHED, health=load(file).health)

    @pytest.mark.parametrize(
        "content", [b"foreign text\n", b'{"type":"run_started","format":[2,0]}\n', b"\x00" * 100 + b"\n"]
    )
    def test_unreadable(self, file: Path, content: bytes) -> None:
        """RR-43: what is no record, or one of another release, is neither crashed nor running."""
        file.write_bytes(content)

        assert state_of(file) is RecordState.UNREADABLE
        with pytest.raises(UnreadableRecordError) as caught:
            load(file)
        assert caught.value.path == str(file)

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        """RR-43: nothing there, a directory without a record, a pipe that nobody writes to: one error, at once."""
        os.mkfifo(tmp_path / "pipe")

        for path in (tmp_path / "nothing", tmp_path, tmp_path / "pipe"):
            assert state_of(path) is RecordState.UNREADABLE

    def test_an_empty_file_is_a_writer_that_died_at_once(self, file: Path) -> None:
        """RR-43, RR-44: no event, no writer: crashed, and nothing is made up."""
        file.touch()

        view = load(file)

        assert view.state is RecordState.CRASHED
        assert view.run.outcome is None

    def test_a_writer_that_finished_in_between_is_not_taken_for_dead(self) -> None:
        """RR-42: asked before the last byte was read, "alive" holds although no terminal event was seen."""
        assert record_state(is_finished=False, writer=Writer.ALIVE) is RecordState.RUNNING
        assert record_state(is_finished=False, writer=Writer.UNKNOWN) is RecordState.RUNNING
        assert record_state(is_finished=False, writer=Writer.GONE) is RecordState.CRASHED
        assert record_state(is_finished=True, writer=Writer.GONE) is RecordState.FINISHED


class TestLock:
    def test_children_of_a_dead_writer_do_not_keep_it_alive(self, file: Path) -> None:
        """RR-42: the descriptor is closed on exec."""
        with record_writer(file) as writer:
            writer.write(LINES[0])
            child = int(writer.tell("exec"))
            try:
                writer.kill()
                assert state_of(file) is RecordState.CRASHED
                os.kill(child, 0)
            finally:
                os.kill(child, signal.SIGKILL)

    def test_a_forked_child_keeps_the_lock(self, file: Path) -> None:
        """RR-42: why a recorder must close its file in a forked child: until then the record looks alive."""
        with record_writer(file) as writer:
            writer.write(LINES[0])
            child = int(writer.tell("fork"))
            writer.kill()
            try:
                assert state_of(file) is RecordState.RUNNING
            finally:
                os.kill(child, signal.SIGKILL)

    def test_a_reader_does_not_keep_the_lock(self, file: Path) -> None:
        """RR-42, RR-47: while a reader reads, a writer can have its lock, and another reader sees no writer."""
        file.write_bytes(RECORD)

        with open_record(file) as first, open_record(file) as second:
            assert (first.writer(), second.writer()) == (Writer.GONE, Writer.GONE)
            with file.open("ab") as writer:
                fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_without_locks_the_process_decides(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-42: pid, start and boot, where the file system has no locks."""

        def no_locks(fd: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "no locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        with subprocess.Popen(["sleep", "60"]) as process:
            facts = {
                "host": platform.node(),
                "pid": process.pid,
                "pid_start": start_ticks(process.pid),
                "boot_id": boot_id(),
            }
            file.write_bytes(b"".join(lines_of(stamp_all([header(**facts)]))))
            assert state_of(file) is RecordState.RUNNING
            process.kill()
            process.wait()
            assert state_of(file) is RecordState.CRASHED

    def test_who_is_the_writer(self) -> None:
        """RR-42: another start or boot is another process; another host, or too little, is not known."""
        me = header(host=platform.node(), pid=os.getpid(), pid_start=start_ticks(os.getpid()), boot_id=boot_id())

        def judged(**changes: object) -> Writer:
            return writer_by_pid(msgspec.structs.replace(me, **changes))

        assert judged() is Writer.ALIVE
        assert judged(pid_start=1) is Writer.GONE
        assert judged(boot_id="another") is Writer.GONE
        assert judged(host="another") is Writer.UNKNOWN
        assert judged(boot_id=None) is Writer.UNKNOWN
        assert judged(pid_start=None) is Writer.UNKNOWN
        assert writer_by_pid(None) is Writer.UNKNOWN

    def test_other_failures_of_a_lock_are_told(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-43: an error of the disk is no dead writer."""
        file.write_bytes(RECORD)

        def broken(fd: int, operation: int) -> None:
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(fcntl, "flock", broken)

        with pytest.raises(UnreadableRecordError, match="input/output error"):
            load(file)


class TestFiles:
    def test_nothing_is_written(self, file: Path) -> None:
        """RR-44, RR-47: reading, and recovering, opens read-only and leaves the file and its directory as they were."""
        file.write_bytes(b"".join(LINES[:13]) + b"torn")
        before = (file.read_bytes(), file.stat(), file.parent.stat(), os.listdir(file.parent))
        opened: list[tuple[object, int]] = []
        listening = True

        def hook(name: str, arguments: tuple[object, ...]) -> None:
            if listening and name == "open":
                opened.append((arguments[0], int(str(arguments[2]))))
            assert not listening or name not in ("os.rename", "os.remove", "os.truncate", "os.link")

        sys.addaudithook(hook)
        try:
            assert load(file).state is RecordState.CRASHED
        finally:
            listening = False

        after = (file.read_bytes(), file.stat(), file.parent.stat(), os.listdir(file.parent))
        assert (after[0], after[3]) == (before[0], before[3])
        assert [stat.st_mtime_ns for stat in (after[1], after[2])] == [
            stat.st_mtime_ns for stat in (before[1], before[2])
        ]
        assert [path for path, _ in opened] == [str(file)]
        assert all(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) == 0 for _, flags in opened)

    def test_a_directory_is_a_run(self, file: Path) -> None:
        file.write_bytes(RECORD)

        assert load(file.parent) == load(file) == load(str(file))

    def test_a_packed_record_is_read_like_any_other(self, tmp_path: Path) -> None:
        """RR-38: by its content, in a directory or by name, also if it was packed in pieces."""
        packed = gzip.compress(RECORD[:1000]) + gzip.compress(RECORD[1000:])
        (tmp_path / "events.jsonl.gz").write_bytes(packed)

        view = load(tmp_path)

        assert view == view_of(EVENTS, state=RecordState.FINISHED, health=view.health)
        assert view.health.is_clean or view.health.clock_step_ms
        assert [line.raw + b"\n" for line in read_events(tmp_path / "events.jsonl.gz")] == LINES

    def test_a_packed_record_that_is_cut_short(self, tmp_path: Path) -> None:
        """RR-38: what can be unpacked is read, at every byte, and damage inside ends it without an error."""
        packed = gzip.compress(RECORD)
        path = tmp_path / "events.jsonl.gz"
        counts = []

        for size in range(2, len(packed), 7):
            path.write_bytes(packed[:size])
            counts.append(len(list(read_events(path))))
        path.write_bytes(packed[:300] + b"\xff" * 50 + packed[350:])
        list(read_events(path))

        assert counts == sorted(counts)
        assert counts[-1] >= len(LINES) - 1

    def test_a_packed_record_takes_bounded_memory(self, tmp_path: Path) -> None:
        """RR-38: a file that unpacks to very much comes in blocks."""
        path = tmp_path / "events.jsonl.gz"
        path.write_bytes(gzip.compress(b"\n" * (8 << 20)))

        with open_record(path) as file:
            sizes = [len(block) for block in file.blocks()]

        assert max(sizes) <= BLOCK_BYTES
        assert sum(sizes) == 8 << 20

    def test_reading_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        """RR-39: a reader's position leads into the file, packed or not, also behind a torn line."""
        for name, write in (("plain", bytes), ("packed", gzip.compress)):
            path = tmp_path / name
            path.write_bytes(write(RECORD[:1500]))
            first = RecordReader()
            found = [line.event for line in read_events(path, reader=first)]
            path.write_bytes(write(RECORD))
            second = RecordReader(position=first.position)
            found += [line.event for line in read_events(path, reader=second)]
            assert found == EVENTS

    def test_one_reader_may_be_given_the_file_again(self, file: Path) -> None:
        """RR-39: it knows what it was given, the torn line included, and goes on behind that."""
        reader = RecordReader()
        found = []
        for size in (700, 701, 702, 2000, len(RECORD)):
            file.write_bytes(RECORD[:size])
            found += [line.event for line in read_events(file, reader=reader)]

        assert found == EVENTS
        assert reader.health.corrupt == 0

    def test_an_iterator_that_was_given_up_is_followed_by_another_reader(self, file: Path) -> None:
        """RR-39: a position is behind the last event that was taken, wherever in a block that is."""
        file.write_bytes(RECORD)
        position, found = Position(), []
        while True:
            reader = RecordReader(position=position)
            line = next(iter(read_events(file, reader=reader)), None)
            if line is None:
                break
            found.append(line.event)
            position = reader.position

        assert found == EVENTS

    def test_start_ticks_of_a_zombie(self) -> None:
        """RR-42: a process that nobody has reaped writes nothing any more."""
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert start_ticks(process.pid) is None
        assert start_ticks(2**22 + 1) is None
