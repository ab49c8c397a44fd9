"""Where lines go: files, pipes, functions, and what becomes of them when that goes wrong."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import Event, EventCodec, stamped
from procflow.record.sinks.files import FileSink
from procflow.record.sinks.functions import FunctionSink
from procflow.record.sinks.pipes import PipeSink
from procflow.record.sinks.port import Dropped, Losses
from procflow.record.sinks.targets import Target, parse_target

LIMIT_S = 60


class Said(Event, tag="said", frozen=True, kw_only=True):
    words: str = ""


class JobDone(Event, tag="job_finished", frozen=True, kw_only=True):
    pass


class Notice(Event, tag="events_dropped", frozen=True, kw_only=True):
    pass


class Over(Event, tag="run_finished", frozen=True, kw_only=True):
    pass


CODEC: EventCodec[Event] = EventCodec((Said, JobDone, Notice, Over))


def line_of(event: Event) -> bytes:
    return CODEC.encode(event)


def numbered(seq: int, words: str = "") -> Said:
    return stamped(Said(words=words), seq=seq, at_ms=0, mono_ns=0)


def say(sink: FileSink | PipeSink | FunctionSink, *events: Event) -> None:
    for event in events:
        sink.emit(line_of(event), event)


def seqs(data: bytes) -> list[int]:
    return [event.seq for line in data.splitlines() if isinstance(event := CODEC.decode(line), Event)]


# --- the book of losses -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_every_lost_event_is_in_a_notice_that_was_written(steps: list[tuple[bool, bool]]) -> None:
    """RR-30: also if the notice is lost itself; what is owed in the end is all that nobody was told of."""
    losses, told, lost = Losses(), list[Dropped](), set[int]()
    seq = 0
    for can_recover, is_written in steps:
        notice = losses.tell() if losses.is_owed and can_recover else None
        for event in ("notice", "event") if notice is not None else ("event",):
            if is_written and not losses.is_owed:
                losses.settle()
                if event == "notice" and notice is not None:
                    told.append(notice)
            else:
                losses.lose(seq, "full")
                lost.add(seq)
            seq += 1
    owed = losses.tell() if losses.is_owed else None
    assert sum(dropped.count for dropped in told) + (owed.count if owed else 0) == len(lost) == losses.count
    for dropped in [*told, *([owed] if owed else [])]:
        assert {dropped.first_seq, dropped.last_seq} <= lost


# --- files ------------------------------------------------------------------------------------------------------------


class TestFile:
    def test_a_record_is_never_written_over(self, tmp_path: Path) -> None:
        """RR-27: exclusive create; the old one stays as it is."""
        path = tmp_path / "events.jsonl"
        path.write_text("old\n")

        with pytest.raises(FileExistsError):
            FileSink(path)

        assert path.read_text() == "old\n"

    def test_nobody_else_can_read_it(self, tmp_path: Path) -> None:
        """RR-27, RR-103: whatever the umask."""
        before = os.umask(0)
        try:
            sink = FileSink(tmp_path / "run" / "events.jsonl")
        finally:
            os.umask(before)
        sink.close()

        assert stat.S_IMODE(sink.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(sink.path.parent.stat().st_mode) == 0o700

    def test_one_event_is_one_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-28: unbuffered, on a descriptor that appends."""
        sink = FileSink(tmp_path / "events.jsonl")
        written: list[bytes] = []
        write = os.write

        def spy(fd: int, data: bytes) -> int:
            written.append(bytes(data))
            return write(fd, data)

        monkeypatch.setattr(os, "write", spy)

        say(sink, numbered(0, "é" * 100_000), numbered(1))

        assert written == [line_of(numbered(0, "é" * 100_000)), line_of(numbered(1))]
        assert sink.path.read_bytes() == b"".join(written)
        assert fcntl.fcntl(sink._fd, fcntl.F_GETFL) & os.O_APPEND
        sink.close()

    @pytest.mark.parametrize(
        ("durability", "synced"),
        [("process", ["run_finished"]), ("job", ["job_finished", "run_finished"]), ("event", None)],
    )
    def test_when_it_is_synced(
        self, durability: object, synced: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RR-29: as often as was asked for."""
        count: list[int] = []
        monkeypatch.setattr(os, "fdatasync", count.append)
        sink = FileSink(tmp_path / "events.jsonl", durability=durability)  # type: ignore[arg-type]  # parametrised

        say(sink, numbered(0), JobDone(seq=1), numbered(2), Over(seq=3))

        assert len(count) == (4 if synced is None else len(synced))
        sink.close()

    def test_its_lock_says_that_the_writer_lives(self, tmp_path: Path) -> None:
        """RR-24, RR-42: held until it is closed, and not by a forked copy of the host."""
        sink = FileSink(tmp_path / "events.jsonl")
        copy = os.fork()
        if copy == 0:
            signal.pause()
            os._exit(0)
        try:
            wait_until_closed(copy, sink.path)
            with open(sink.path, "rb") as reader:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
                say(sink, numbered(0))
                sink.close()
                fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
                assert seqs(reader.read()) == [0]
        finally:
            os.kill(copy, signal.SIGKILL)
            os.waitpid(copy, 0)

    def test_a_reader_that_looks_right_then_does_not_cost_the_lock(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RR-42: or the record would read as crashed for as long as its writer lives."""
        path, flock = tmp_path / "events.jsonl", fcntl.flock

        def meet_a_reader(fd: int, operation: int) -> None:
            with open(path, "rb") as reader:
                flock(reader, fcntl.LOCK_SH)
                if operation & fcntl.LOCK_NB:
                    flock(fd, operation)
            flock(fd, operation)

        monkeypatch.setattr(fcntl, "flock", meet_a_reader)
        sink = FileSink(path)
        with open(path, "rb") as reader, pytest.raises(BlockingIOError):
            flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
        sink.close()

    def test_a_full_disk_costs_events_and_nothing_else(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """RR-30: the kernel takes a part of a line; what comes after is whole again, and the loss can be told."""
        script = """
import os, resource, signal, sys
from tests.core.record.test_sinks import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = FileSink(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (len(line_of(numbered(0))) + 20, resource.RLIM_INFINITY))
say(sink, numbered(0), numbered(1), numbered(2))
assert sink.recover() is None
say(sink, numbered(3))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(sink.recover())
say(sink, Notice(seq=4), numbered(5))
assert sink.recover() is None
print(sink.failure)
"""
        path = tmp_path / "events.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

        lines = path.read_bytes().split(b"\n")
        assert done.stdout.splitlines()[0].startswith("Dropped(count=3, first_seq=1, last_seq=3, reason=")
        assert "3 events were lost" in done.stdout
        assert [lines[0], *lines[2:]] == [
            line_of(event)[:-1] for event in (numbered(0), Notice(seq=4), numbered(5))
        ] + [b""]
        assert line_of(numbered(1)).startswith(lines[1])
        assert len(lines[1]) == 20
        assert done.stderr.count("the run goes on") == 1

    def test_a_closed_one_takes_nothing(self, tmp_path: Path) -> None:
        """RR-36: closing twice is as good as once, and nothing is written after it."""
        sink = FileSink(tmp_path / "events.jsonl")
        say(sink, numbered(0))
        anyio.run(sink.aclose)
        anyio.run(sink.aclose)
        say(sink, numbered(1))

        assert seqs(sink.path.read_bytes()) == [0]
        assert "closed" in sink.failure

    def test_durability_is_one_of_three(self, tmp_path: Path) -> None:
        """RR-29: a wrong word fails before anything is created."""
        with pytest.raises(ValueError, match="'process', 'job', 'event'"):
            FileSink(tmp_path / "x", durability="often")  # type: ignore[arg-type]  # wrong on purpose
        assert not list(tmp_path.iterdir())


def wait_until_closed(pid: int, path: Path) -> None:
    """Wait until the process has no descriptor of the file any more."""

    def leads_there(fd: str) -> bool:
        with contextlib.suppress(OSError):  # one that was closed meanwhile, or leads to no file
            return os.path.samefile(f"/proc/{pid}/fd/{fd}", path)
        return False

    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if not any(map(leads_there, os.listdir(f"/proc/{pid}/fd"))):
            return
    raise AssertionError("it is still open")


# --- pipes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def read_lines(fd: int, count: int) -> bytes:
    data = b""
    while data.count(b"\n") < count:
        assert select.select([fd], [], [], LIMIT_S)[0], "no more lines"
        data += os.read(fd, 1 << 16)
    return data


class TestPipe:
    def test_lines_arrive_in_order(self, pipe: tuple[int, int]) -> None:
        """RR-33: everything that is emitted, if somebody reads."""
        sink = PipeSink(pipe[1], name="pipe")
        say(sink, *map(numbered, range(500)))
        assert seqs(read_lines(pipe[0], 500)) == list(range(500))
        anyio.run(sink.aclose)
        assert sink.failure == ""

    def test_a_stalled_reader_costs_events_and_blocks_nobody(self, pipe: tuple[int, int]) -> None:
        """RR-33: the queue is bounded; the notice and the end always find room; the loss is told when there is room again."""
        sink = PipeSink(pipe[1], name="pipe", max_lines=100)
        big = "x" * 4096
        say(sink, *(numbered(seq, big) for seq in range(1000)))  # returns: nobody reads
        assert len(sink._lines) <= 101
        assert sink.recover() is None
        say(sink, stamped(Notice(), seq=1000, at_ms=0, mono_ns=0))

        read_to = []
        thread = threading.Thread(target=lambda: read_to.append(drain(pipe[0], until=b"run_finished")))
        thread.start()
        dropped = wait_for(sink.recover)
        say(sink, stamped(Over(), seq=1001, at_ms=0, mono_ns=0))
        thread.join(LIMIT_S)
        anyio.run(sink.aclose)

        got = seqs(read_to[0])
        assert got == sorted(got)
        assert dropped.count == 1000 - (len(got) - 2)
        assert set(range(1000)) - set(got) <= set(range(dropped.first_seq, dropped.last_seq + 1))
        assert got[-2:] == [1000, 1001]

    def test_bytes_are_bounded_too(self, pipe: tuple[int, int]) -> None:
        """RR-33: but a single line always fits."""
        sink = PipeSink(pipe[1], name="pipe", max_bytes=100_000)
        say(sink, *(numbered(seq, "x" * 200_000) for seq in range(20)))
        assert sink._bytes <= 200_000 + 200
        assert sink._losses.count >= 17

    def test_block_waits_for_the_reader(self, pipe: tuple[int, int]) -> None:
        """RR-33: nothing is lost, and the emitter pays for it."""
        sink = PipeSink(pipe[1], name="pipe", max_lines=10, when_full="block")
        thread = threading.Thread(target=say, args=(sink, *(numbered(seq, "x" * 4096) for seq in range(300))))
        thread.start()
        assert seqs(read_lines(pipe[0], 300)) == list(range(300))
        thread.join(LIMIT_S)
        assert not thread.is_alive()

    @pytest.mark.parametrize("when_full", ["drop", "block"])
    def test_a_reader_that_goes_away_ends_the_sink(
        self, when_full: object, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
    ) -> None:
        """RR-34: silently after one warning, also for who waits for room."""
        sink = PipeSink(pipe[1], name="pipe", max_lines=5, when_full=when_full)  # type: ignore[arg-type]  # parametrised
        thread = threading.Thread(target=say, args=(sink, *(numbered(seq, "x" * 9000) for seq in range(100))))
        thread.start()
        read_lines(pipe[0], 1)
        os.close(pipe[0])
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        deadline = time.monotonic() + LIMIT_S
        while not sink._reader_is_gone and time.monotonic() < deadline:  # what was read may have been all
            say(sink, numbered(100))
        anyio.run(sink.aclose)
        say(sink, numbered(100))
        assert caplog.text.count("nobody reads") == 1

    def test_closing_waits_a_bounded_time(self, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
        """RR-33: a reader that never reads does not keep the run; what it missed is said."""
        sink = PipeSink(pipe[1], name="pipe", close_wait_s=0.05)
        say(sink, *(numbered(seq, "x" * 9000) for seq in range(100)))
        anyio.run(sink.aclose)
        assert "nobody reads them" in caplog.text

    def test_a_number_that_was_closed_is_not_written_to(self, pipe: tuple[int, int], tmp_path: Path) -> None:
        """RR-33: its owner may close the descriptor, and somebody else be given the number, while a write is stuck."""
        sink = PipeSink(pipe[1], name="pipe", close_wait_s=0.0)
        say(sink, numbered(0, "x" * 500_000))
        select.select([pipe[0]], [], [], LIMIT_S)
        stranger = os.open(tmp_path / "stranger", os.O_RDWR | os.O_CREAT)
        os.dup2(stranger, pipe[1])
        anyio.run(sink.aclose)
        while os.read(pipe[0], 1 << 16):  # to the end: the sink has let go of its own copy
            pass
        assert os.fstat(stranger).st_size == 0
        os.close(stranger)

    def test_a_descriptor_that_does_not_block_is_waited_for(self, pipe: tuple[int, int]) -> None:
        """RR-33: a terminal is often shared with who has made it so."""
        os.set_blocking(pipe[1], False)
        sink = PipeSink(pipe[1], name="pipe")
        say(sink, *(numbered(seq, "x" * 9000) for seq in range(100)))
        assert seqs(read_lines(pipe[0], 100)) == list(range(100))


def drain(fd: int, *, until: bytes) -> bytes:
    data = b""
    while until not in data or not data.endswith(b"\n"):
        data += os.read(fd, 1 << 16)
    return data


def wait_for(look: object) -> Dropped:
    for _ in range(LIMIT_S * 1000):
        found = look()  # type: ignore[operator]  # a function
        if found is not None:
            assert isinstance(found, Dropped)
            return found
        threading.Event().wait(0.001)
    raise AssertionError("it never came")


# --- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
class TestFunction:
    async def test_it_is_called_in_order_on_the_loop(self) -> None:
        """RR-37: at once on the loop's thread, soon from another one."""
        seen: list[tuple[int, int]] = []
        sink = FunctionSink(lambda event: seen.append((event.seq, threading.get_ident())))
        say(sink, numbered(0))
        assert seen == [(0, threading.get_ident())]

        await anyio.to_thread.run_sync(say, sink, *map(numbered, range(1, 50)))
        say(sink, numbered(50))
        await sink.aclose()

        assert seen == [(seq, threading.get_ident()) for seq in range(51)]

    async def test_what_it_raises_goes_nowhere(self, caplog: pytest.LogCaptureFixture) -> None:
        """RR-32, RR-37: logged once, and called again for the next."""
        seen: list[int] = []

        def fail(event: Event) -> None:
            seen.append(event.seq)
            raise RuntimeError("no")

        sink = FunctionSink(fail)
        say(sink, *map(numbered, range(3)))

        assert seen == [0, 1, 2]
        assert caplog.text.count("failed at event") == 1
        assert "3 events" in sink.failure


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("null", Target("null")),
        ("stdout", Target("stdout", fd=1)),
        ("stderr", Target("stderr", fd=2)),
        ("fd:7", Target("fd:7", fd=7)),
        ("file:a b", Target("file:a b", path="a b")),
        ("file:x:y", Target("file:x:y", path="x:y")),
        ("./stdout", Target("./stdout", path="./stdout")),
        ("./s3:x", Target("./s3:x", path="./s3:x")),
        ("runs/a.jsonl", Target("runs/a.jsonl", path="runs/a.jsonl")),
        (Path("stdout"), Target("stdout", path="stdout")),
    ],
)
def test_targets(text: str | Path, target: Target) -> None:
    """RR-26: what each spelling means."""
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "s3://bucket/x", "fd:", "fd:one", "fd:-1", "file:", "STDOUT:x"])
def test_what_is_no_target_is_said(text: str) -> None:
    """RR-26: with the spellings that there are."""
    with pytest.raises(ValueError, match="null, stdout, stderr, fd:NUMBER, file:PATH or a path"):
        parse_target(text)


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    """RR-26: before anything is recorded."""
    with pytest.raises(OSError):
        parse_target("fd:987654").open()
    assert parse_target("null").open() is None
