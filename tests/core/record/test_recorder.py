"""From something that happened to a line in every sink."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest

from procflow.record import (
    Event,
    JobFinished,
    JobStarted,
    Note,
    RecordCodec,
    RecordEvent,
    RecordReader,
    RedactionInfo,
    RunFinished,
    RunStarted,
    ShStarted,
    UnrecordableError,
    load,
    read_events,
)
from procflow.record.recorder import Recorder
from procflow.record.redaction import Redactor, Secret
from procflow.record.sinks.files import FileSink
from procflow.record.sinks.port import Dropped, Losses

GOLDEN = Path(__file__).parent / "golden" / "1.0"
CANARY = "canary-3f9c0a51e2d7"


class Kept:
    """A sink that keeps the lines, and loses what it is told to lose."""

    failure = ""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.loses: set[int] = set()
        self.losses = Losses()
        self.is_closed = False

    @property
    def lost_count(self) -> int:
        return self.losses.count

    def emit(self, line: bytes, event: Event) -> None:
        if event.seq in self.loses:
            self.losses.lose(event.seq, "told to")
            return
        self.losses.settle()
        self.lines.append(line)

    def recover(self) -> Dropped | None:
        return self.losses.tell() if self.losses.is_owed else None

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def events(self) -> list[RecordEvent]:
        codec = RecordCodec()
        events = [codec.decode(line) for line in self.lines]
        assert all(isinstance(event, RecordEvent) for event in events)
        return events  # type: ignore[return-value]  # asserted


class Broken(Kept):
    def emit(self, line: bytes, event: Event) -> None:
        raise OSError("broken")

    def recover(self) -> Dropped | None:
        raise OSError("broken")

    async def aclose(self) -> None:
        raise OSError("broken")


class FakeClock:
    def __init__(self) -> None:
        self.wall, self.mono = 1_000_000, 5_000

    def at_ms(self) -> int:
        return self.wall

    def mono_ns(self) -> int:
        return self.mono


def began() -> RunStarted:
    return RunStarted(
        format=(1, 0), run_id="r", name="n", procflow="0", python="3", platform="linux", host="h", pid=1,
        redaction=RedactionInfo(enabled=False, rules=()),
    )  # fmt: skip


def over(recorder: Recorder, outcome: str = "succeeded") -> RunFinished:
    return RunFinished(outcome=outcome, duration_ns=recorder.mono_ns(), totals=recorder.totals())


def numbers(path: Path) -> list[int]:
    return [line.event.seq for line in read_events(path) if isinstance(line.event, RecordEvent)]


def seqs(sink: Kept) -> list[int]:
    return [event.seq for event in sink.events]


@pytest.mark.anyio
async def test_numbers_rise_by_one_whoever_emits() -> None:
    """RR-02: in file order, with 100 tasks and 8 threads."""
    sink = Kept()
    recorder = Recorder([sink])

    async def emit_some() -> None:
        for _ in range(10):
            recorder.emit(JobStarted(job_id="a", attempt=1))
            await anyio.lowlevel.checkpoint()

    def emit_many() -> None:
        for _ in range(100):
            recorder.emit(JobStarted(job_id="b", attempt=1))

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(emit_some)
        for _ in range(8):
            tasks.start_soon(
                anyio.to_thread.run_sync,
                emit_many,
            )

    assert seqs(sink) == list(range(1800))
    assert recorder.totals().jobs == 1800


def test_nothing_follows_the_end() -> None:
    """RR-03: later events are refused and counted."""
    sink = Kept()
    recorder = Recorder([sink])
    recorder.emit(began())
    recorder.emit(over(recorder))
    recorder.emit(JobStarted(job_id="a", attempt=1))

    assert recorder.is_over
    assert recorder.refused_count == 1
    assert [type(event) for event in sink.events] == [RunStarted, RunFinished]


def test_durations_do_not_follow_the_wall_clock() -> None:
    """RR-23: with the wall clock an hour back the monotonic one goes on, and the reader tells of the step."""
    sink, clock = Kept(), FakeClock()
    recorder = Recorder([sink], clock=clock)
    recorder.emit(began())
    clock.wall -= 3_600_000
    clock.mono += 7_000_000
    recorder.emit(over(recorder))

    first, last = sink.events
    assert (first.mono_ns, last.mono_ns) == (0, 7_000_000)
    assert isinstance(last, RunFinished)
    assert last.duration_ns == 7_000_000
    reader = RecordReader("x")
    list(reader.feed(b"".join(sink.lines)))
    assert reader.health.clock_step_ms == -3_600_007


def test_a_forked_copy_says_nothing(tmp_path: Path) -> None:
    """RR-24: it writes no line and takes no number; the record goes on without a gap."""
    recorder = Recorder([FileSink(tmp_path / "events.jsonl")])
    recorder.emit(began())
    if (copy := os.fork()) == 0:
        try:
            recorder.emit(JobStarted(job_id="of the copy", attempt=1))
        finally:
            os._exit(0)
    os.waitpid(copy, 0)
    recorder.emit(over(recorder))

    assert numbers(tmp_path / "events.jsonl") == [0, 1]


def test_a_sink_that_fails_is_its_own_affair(caplog: pytest.LogCaptureFixture) -> None:
    """RR-32: whatever it raises, and whenever."""
    broken, sound = Broken(), Kept()
    recorder = Recorder([broken, sound])
    recorder.emit(began())
    recorder.emit(over(recorder))
    anyio.run(recorder.aclose)

    assert seqs(sound) == [0, 1]
    assert sound.is_closed
    assert caplog.text.count("its next failures are not told") == 1


def test_what_one_sink_lost_is_said_in_all() -> None:
    """RR-30, RR-41: the notice has a number of its own, and explains the gap."""
    poor, rich = Kept(), Kept()
    poor.loses = {1, 2, 4}  # 3 is the notice of 1; 4 that of 2
    recorder = Recorder([poor, rich])
    for _ in range(4):
        recorder.emit(began() if not rich.lines else JobStarted(job_id="a", attempt=1))
    recorder.emit(over(recorder))

    assert seqs(rich) == list(range(rich.events[-1].seq + 1))
    reader = RecordReader("x")
    list(reader.feed(b"".join(poor.lines)))
    assert reader.health.missing == 3
    assert reader.health.dropped == 3
    assert recorder.totals().dropped == 3


def test_an_event_in_the_middle_of_another_follows_it() -> None:
    """RR-02: a finalizer may run anywhere."""
    sink = Kept()
    recorder = Recorder([sink])

    class Chatty(Kept):
        def emit(self, line: bytes, event: Event) -> None:
            if isinstance(event, JobStarted):
                recorder.emit(JobFinished(job_id="a", attempt=1, outcome="succeeded", duration_ns=0))

    recorder = Recorder([Chatty(), sink])
    recorder.emit(began())
    recorder.emit(JobStarted(job_id="a", attempt=1))

    assert [type(event) for event in sink.events] == [RunStarted, JobStarted, JobFinished]
    assert seqs(sink) == [0, 1, 2]


def test_what_cannot_stand_on_a_line_takes_no_number() -> None:
    """RR-05: its caller is told, and the next event has the number."""
    sink = Kept()
    recorder = Recorder([sink])
    recorder.emit(began())
    with pytest.raises(UnrecordableError):
        recorder.emit(Note(key="a.b", value=2**70))
    recorder.emit(over(recorder))

    assert seqs(sink) == [0, 1]


def texts(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    match value:
        case str():
            yield path
        case dict():
            for key, item in value.items():
                yield from texts(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from texts(item, (*path, index))


FIXED = {
    "type",
    "run_id",
    "outcome",
    "signal",
    "procflow",
    "python",
    "platform",
    "host",
    "boot_id",
    "redaction",
    "trace",
    "requires",
    "argv_b64",
    "cwd_b64",
}
"""What the recorder's own program writes, never a user's text."""


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.jsonl")))
def test_no_text_of_any_event_keeps_a_secret(name: str) -> None:
    """RR-76: a secret in each text of each event, one after the other."""
    for line in (GOLDEN / f"{name}.jsonl").read_bytes().splitlines():
        event = RecordCodec().decode(line)
        assert isinstance(event, RecordEvent)
        tree = msgspec.to_builtins(event)
        for path in texts(tree):
            if path[0] in FIXED:
                continue
            spoilt = msgspec.json.decode(msgspec.json.encode(tree))
            place = spoilt
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = f"a {CANARY} b"
            sink = Kept()
            Recorder([sink], redactor=Redactor([Secret(CANARY, name="bird")])).emit(
                msgspec.convert(spoilt, type(event))
            )
            assert CANARY.encode() not in sink.lines[0], path
            if path[0] != "cmd":
                assert b"<redacted:bird>" in sink.lines[0], path


def test_odd_bytes_of_a_command_are_kept_beside_its_text() -> None:
    """RR-06, RR-07: the words as they were, without the secret; `cmd` gives the readable words back."""
    sink = Kept()
    odd = b"caf\xe9 " + CANARY.encode()
    event = ShStarted(job_id="a", attempt=1, sh=1, argv=("echo", os.fsdecode(odd)), cmd="", cwd=os.fsdecode(b"/t\xff"))
    Recorder([sink], redactor=Redactor([Secret(CANARY, name="bird")])).emit(event)

    (found,) = sink.events
    assert isinstance(found, ShStarted)
    assert found.argv == ("echo", r"caf\xe9 <redacted:bird>")
    assert found.argv_b64 is not None
    assert CANARY.encode() not in b"".join(map(msgspec.json.encode, found.argv_b64))
    assert (found.cwd, found.cwd_b64) == (r"/t\xff", "L3T/")


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """RR-28: acceptance 2, at random moments; every line whose emit() had returned is there, and at most one is torn."""
    pick = random.Random(2026)
    for trial in range(40):
        path = tmp_path / f"{trial}.jsonl"
        reading, writing = os.pipe()
        copy = os.fork()
        if copy == 0:
            os.close(reading)
            try:
                recorder = Recorder([FileSink(path)])
                recorder.emit(began())
                while True:
                    recorder.emit(Note(key="a.b", value="x" * pick.randrange(9000)))
                    os.write(writing, b".")
            finally:
                os._exit(1)
        os.close(writing)
        wanted = pick.randrange(1, 60)
        acknowledged = 0
        while acknowledged < wanted:
            acknowledged += len(os.read(reading, 1))
        os.kill(copy, signal.SIGKILL)
        os.waitpid(copy, 0)
        while more := os.read(reading, 1 << 16):
            acknowledged += len(more)
        os.close(reading)

        view = load(path)
        assert numbers(path)[: acknowledged + 1] == list(range(acknowledged + 1))
        assert view.health.corrupt == 0
        assert view.state.value == "crashed"


def test_threads_and_forks_do_not_meet_a_lock_that_is_held() -> None:
    """RR-24: a copy that was forked while another thread emits must not wait for that thread, which it does not have."""
    recorder = Recorder([Kept()])
    stop = threading.Event()

    def emit_all_the_time() -> None:
        while not stop.is_set():
            recorder.emit(JobStarted(job_id="a", attempt=1))

    thread = threading.Thread(target=emit_all_the_time)
    thread.start()
    try:
        for _ in range(20):
            if (copy := os.fork()) == 0:
                try:
                    recorder.emit(JobStarted(job_id="b", attempt=1))
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


def test_an_interruption_leaves_no_sink_open(tmp_path: Path) -> None:
    """RR-36: an interruption while a sink is closed, such as a second Ctrl-C, goes on when the others are closed too."""

    class Interrupted(Kept):
        async def aclose(self) -> None:
            raise KeyboardInterrupt

    path, last = tmp_path / "events.jsonl", Kept()
    recorder = Recorder([Interrupted(), FileSink(path), last])
    with pytest.raises(KeyboardInterrupt):
        anyio.run(recorder.aclose)

    assert last.is_closed
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
