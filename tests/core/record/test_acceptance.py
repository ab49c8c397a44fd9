"""The acceptance pack of the specification, as far as whole runs decide: real children, real disks, real readers.

Numbers 1, 3 and 4 are with the database (``store/``), 2 with the recorder, 12 with the tail; their docstrings say so.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.lowlevel
import pytest

import procflow as pf
from procflow.record import (
    EventsDropped,
    Job,
    JobSpec,
    RecordState,
    Run,
    RunStarted,
    ShFinished,
    UnreadableRecordError,
    load,
    open_run,
)
from procflow.record.codec import RecordCodec
from procflow.record.logs import LogStream, read_output
from procflow.record.recording.run import RunBlock
from procflow.record.recording.settings import RecordSettings
from tests.core.conformance.cancelling import Attempt, How, cancel_at_every_step

from .runs import events_of, require_balance, the_run_in
from .sample import header, started

pytestmark = pytest.mark.anyio

NOW = pf.Shutdown.now()


# --- 5 and 6: disks and readers --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


async def test_a_disk_that_fills_up_does_not_disturb_the_run(small_disk: Path, backend: str) -> None:
    """RR-30: acceptance 5: the run succeeds, the record goes on when there is room again, and says what it has lost."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(40 << 10))
    async with open_run("x", record=small_disk, logs=False) as run:
        record = run.directory / "events.jsonl"
        size, is_full = -1, False
        while not is_full:
            await run.sh("echo", "x" * 2000)
            is_full, size = record.stat().st_size == size, record.stat().st_size
        filler.unlink()
        await run.sh("echo", "after")

    assert run.outcome == "succeeded"
    view = load(run.directory)
    assert view.state is RecordState.FINISHED
    assert view.health.conflicts == view.health.duplicates == 0
    assert view.health.dropped > 0
    [dropped] = [event for event in events_of(run.directory) if isinstance(event, EventsDropped)]
    assert view.health.missing == dropped.count
    assert all(gap.is_explained for gap in view.health.gaps)
    assert [call.argv[1] for call in view.calls.values()][-1] == "after"


EVENTS_TO_STDOUT = """
import sys
import anyio
import procflow as pf
from procflow.record import open_run

async def main():
    async with open_run("x", record=sys.argv[1], events="stdout") as run:
        for number in range(int(sys.argv[2])):
            await run.sh("echo", "x" * 4000, containment="group")
    print(run.outcome, file=sys.stderr)

anyio.run(main)
"""


async def test_a_reader_that_stalls_and_goes_away_does_not_disturb_the_run(tmp_path: Path, backend: str) -> None:
    """RR-33, RR-34: acceptance 6: the run ends as if nobody had been there, and its record is whole."""
    config = pf.StreamConfig(pipe_bytes=4096, read_bytes=4096)
    command = pf.Command(sys.executable, "-c", EVENTS_TO_STDOUT, tmp_path, "30")
    async with pf.spawn(command, stdin=pf.NULL, stdout=config, shutdown=NOW) as child:
        async with child.stdout.subscribe(pf.Reliable(buffer_bytes=4096)):
            # It reads 4 KiB and then nothing, until the run has called everything.
            while len(list(tmp_path.iterdir())) == 0 or len(load(the_run_in(tmp_path)).calls) < 30:
                await anyio.sleep(0)
            child.stdout.close()
        outcome = await child.wait()
        said = [line async for line in child.stderr.lines()]

    assert (outcome.exit_code, said[-1]) == (0, "succeeded")
    require_balance(the_run_in(tmp_path))


# --- 7 and 15: cancellations and faults -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", How)
async def test_cancelled_at_every_await(how: How, backend: str) -> None:
    """RR-14, RR-15: acceptance 7: wherever a job is cancelled, the stream balances."""
    if how.is_native and backend == "trio":
        pytest.skip("asyncio's own way")

    async def case(attempt: Attempt) -> None:
        with contextlib.ExitStack() as stack:
            root = Path(stack.enter_context(_temporary()))

            async def call() -> None:
                async with open_run("x", record=root) as run, run.job("j") as job:
                    await job.sh(pf.Command("echo", "a") | pf.Command("cat"), shutdown=NOW, containment="group")
                    async with pf.spawn(pf.Command("sleep", "60"), shutdown=NOW, containment="group"):
                        await anyio.lowlevel.checkpoint()

            await attempt(call)
            if any(root.iterdir()):
                require_balance(the_run_in(root))

    assert await cancel_at_every_step(case, how) > 1


def _temporary() -> contextlib.AbstractContextManager[str]:
    import tempfile

    return tempfile.TemporaryDirectory()


class Faults:
    """Random work that goes wrong in random ways; the same for the same seed."""

    def __init__(self, seed: int, scope: anyio.CancelScope) -> None:
        self._dice = random.Random(seed)
        self._scope = scope

    def job(self) -> Callable[[Job], Awaitable[object]]:
        deeds = [self._dice.choice(self.deeds()) for _ in range(self._dice.randrange(5))]

        async def work(job: Job) -> None:
            for deed in deeds:
                await deed(job)

        return work

    def deeds(self) -> list[Callable[[Job], Awaitable[object]]]:
        async def succeed(job: Job) -> None:
            await job.sh("true")

        async def fail(job: Job) -> None:
            await job.sh("false")

        async def pipe(job: Job) -> None:
            await job.sh(pf.Command("echo", "x") | pf.Command("cat") | pf.Command("true"))

        async def miss(job: Job) -> None:
            await job.sh("no-such-program-anywhere", check=False)

        async def stumble(job: Job) -> None:
            with contextlib.suppress(pf.SpawnError):
                await job.sh(pf.Command("true", cwd="/nowhere"))

        async def be_late(job: Job) -> None:
            await job.sh("sleep", "60", timeout_s=0.02, shutdown=NOW)

        async def raise_an_error(_job: Job) -> None:
            raise ValueError("of its own")

        async def be_killed(_job: Job) -> None:
            async with pf.spawn(pf.Command("sleep", "60"), shutdown=NOW) as child:
                os.kill(child.pid, signal.SIGKILL)
                await child.wait()

        async def leave(_job: Job) -> None:
            async with pf.spawn(pf.shell("setsid sleep 60 & sleep 60"), shutdown=NOW):
                pass

        async def overlap(job: Job) -> None:
            async with anyio.create_task_group() as tasks:
                for code in range(3):
                    tasks.start_soon(_call, job, code)

        async def cancel(_job: Job) -> None:
            self._scope.cancel()
            await anyio.lowlevel.checkpoint()

        often = [succeed, pipe, stumble, be_killed, leave, overlap]
        return [*often, *often, fail, miss, be_late, raise_an_error, cancel]


async def _call(job: Job, code: int) -> None:
    await job.sh("sh", "-c", f"exit {code}", check=False)


@pytest.mark.parametrize("seed", range(12))
async def test_random_jobs_with_faults(seed: int, tmp_path: Path) -> None:
    """RR-15: whatever fails in a random tree of jobs, each thing that was begun has one end."""
    dice = random.Random(seed)

    async def nest(run: Run, faults: Faults) -> None:
        async with run.job("nested") as job:
            await faults.job()(job)

    async def main(run: Run, faults: Faults) -> None:
        jobs: list[JobSpec] = []
        for number in range(dice.randrange(1, 7)):
            known = [job.job_id for job in jobs]
            after = dice.sample(known, dice.randrange(min(3, len(known) + 1)))
            attempts = dice.randrange(1, 3)
            jobs.append(JobSpec(job_id=f"j{number}", work=faults.job(), after=after, attempts=attempts))
        dice.shuffle(jobs)
        run.declare("never")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nest, run, faults)
            await run.run_jobs(jobs, max_running=dice.randrange(1, 4))

    with contextlib.suppress(Exception):
        with anyio.CancelScope() as scope:
            async with open_run("x", record=tmp_path) as run:
                await main(run, Faults(seed, scope))

    events = require_balance(the_run_in(tmp_path))
    assert isinstance(events[0], RunStarted)


# --- 8: overlapping calls ---------------------------------------------------------------------------------------------


class OneMillisecond:
    """A wall clock that shows one millisecond, and then goes backwards; the other clock is right."""

    def __init__(self) -> None:
        self._mono_ns = 0

    def at_ms(self) -> int:
        return 1_700_000_000_000 - max(self._mono_ns - 300, 0) * 1000

    def mono_ns(self) -> int:
        self._mono_ns += 1
        return self._mono_ns


async def test_200_overlapping_calls_in_one_millisecond(tmp_path: Path, backend: str) -> None:
    """RR-17, RR-23, RR-51: acceptance 8: with the wall clock going backwards each call has its row, its code and its log."""
    if backend != "asyncio":
        pytest.skip("the rows do not depend on the event loop")

    async def call(job: Job, number: int) -> None:
        command = pf.Command("sh", "-c", f"echo {number}; exit {number % 5}")
        await job.sh(command, check=False, containment="group")

    async with RunBlock("x", RecordSettings(record=tmp_path), clock=OneMillisecond()) as run, run.job("j") as job:
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(call, job, number)

    require_balance(run.directory)
    view = load(run.directory)
    assert len({row.started_at_ms for row in view.calls.values()}) < 200
    assert view.health.clock_step_ms < 0
    for row in view.calls.values():
        number = int(row.cmd.split()[3].rstrip(";").strip("'")) if row.cmd is not None else -1
        assert row.exit_code == number % 5
        assert row.duration_ns is not None
        assert row.duration_ns >= 0
        assert row.log_path is not None
        log = read_output(str(run.directory / row.log_path), LogStream.STDOUT)
        assert b"".join(part for part in log if isinstance(part, bytes)) == f"{number}\n".encode()


# --- 9: canaries ------------------------------------------------------------------------------------------------------

CANARY = "canary/7f \"3c' +=&é$\\x"
SHOWN = CANARY.encode()
FORMS: dict[str, tuple[bytes, bytes]] = {
    "raw": (SHOWN, SHOWN),
    "json": (found := CANARY.replace("\\", "\\\\").replace('"', '\\"').encode(), found),
    "percent": (found := quote(CANARY, safe="").encode(), found),
    "shell": (found := shlex.quote(CANARY).encode(), found),
    **{
        f"{encode.__name__} at {start}": (
            encoded := encode(b"." * start + SHOWN + b"." * after),
            encoded[4 if start else 0 : -4],
        )
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
        for start, after in ((0, 0), (1, 2), (2, 1), (0, 5))
    },
}
"""What is said, and what of it must be nowhere: of base64 the groups that hold nothing but the secret."""

SAY = "import os, sys, base64\nfor part in sys.stdin.read().split():\n    os.write(1, base64.b16decode(part)); os.write(2, base64.b16decode(part))"


async def test_no_canary_is_anywhere(tmp_path: Path, backend: str) -> None:
    """RR-76, RR-77, RR-78, RR-79: acceptance 9: ten places, every encoding, every split of a read; no file holds it."""
    secret = pf.Secret(CANARY, name="canary")
    with pytest.raises(RuntimeError):
        async with open_run(
            CANARY,
            record=tmp_path,
            database=tmp_path / "rows.db",
            secrets=[secret],
            meta={"key": CANARY, CANARY: "value"},
            env_values=["SHOWN"],
        ) as run:
            async with run.job(f"job {CANARY}") as job:
                job.note("canary.note", {CANARY: [CANARY, {"deep": CANARY}]})
                await job.sh("true", CANARY, f"--token={CANARY}", secret)
                await job.sh(pf.shell(f"true {shlex.quote(CANARY)}"))
                await job.sh("true", env={"SHOWN": CANARY, "HIDDEN": secret})
                directory = tmp_path / CANARY.replace("/", "") / quote(CANARY, safe="")
                directory.mkdir(parents=True)
                await job.sh("true", cwd=directory)
                for name, (form, _) in FORMS.items():
                    await job.sh("true", name, form)
                    splits = b" ".join(
                        base64.b16encode(piece)
                        for at in range(len(form) + 1)
                        for piece in (b"<" + form[:at], form[at:] + b">")
                        if piece
                    )
                    await job.sh(sys.executable, "-c", SAY, stdin=splits, stdout=pf.StreamConfig(read_bytes=1 << 12))
            run.cancel(f"because of {CANARY}")
            raise RuntimeError(f"an error with {CANARY} in it")

    require_balance(run.directory)
    files = [path for path in (tmp_path / "rows.db", *run.directory.rglob("*")) if path.is_file()]
    assert len(files) > len(FORMS)
    for path in files:
        held = path.read_bytes()
        assert [name for name, (_, part) in FORMS.items() if part in held] == [], path
        assert quote(CANARY, safe="") not in str(path)


# --- 10: logs ---------------------------------------------------------------------------------------------------------

WRITE = """
import os, random, sys
dice = random.Random(int(sys.argv[1]))
for fd in [dice.choice((1, 2)) for _ in range(200)]:
    data = dice.randbytes(dice.choice((0, 1, 7, 80, 5000))) if dice.random() < .5 else dice.choice(
        (b"a line\\n", b"\\r\\n", b"\\0", b"\\xff\\xfe", b"no newline", b"\\n\\n\\n", b"x" * 40000))
    while data:
        data = data[os.write(fd, data):]
    (sys.stdout, sys.stderr)
"""


@pytest.mark.parametrize("seed", range(4))
async def test_logs_are_exact_to_the_byte(seed: int, tmp_path: Path) -> None:
    """RR-67: acceptance 10: whatever a child writes, in whatever pieces, its log gives both streams back."""
    everything = pf.StreamConfig(replay=pf.Replay.all())
    async with open_run("x", record=tmp_path) as run:
        done = await run.sh(sys.executable, "-c", WRITE, str(seed), stdout=everything, stderr=everything)

    [finished] = [event for event in require_balance(run.directory) if isinstance(event, ShFinished)]
    log = str(run.directory / "jobs/main/sh-0001.log")
    for stream, output, count in (
        (LogStream.STDOUT, done.stdout, finished.stdout_bytes),
        (LogStream.STDERR, done.stderr, finished.stderr_bytes),
    ):
        assert b"".join(part for part in read_output(log, stream) if isinstance(part, bytes)) == output.bytes
        assert count == len(output.bytes) > 0


# --- 11: the future ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_records_of_the_future(tmp_path: Path) -> None:
    """RR-09, RR-10: acceptance 11: a future minor version is read, a future major one refused with both versions."""
    codec = RecordCodec()
    from procflow.record import stamped

    minor = codec.encode(stamped(header(format=(1, 7)), seq=0, at_ms=1, mono_ns=0)).replace(b"}\n", b',"later":[1]}\n')
    more = codec.encode(stamped(started("build", 1, "make"), seq=2, at_ms=1, mono_ns=2))
    (tmp_path / "minor.jsonl").write_bytes(minor + b'{"type":"job_paused","seq":1,"at_ms":1,"mono_ns":1}\n' + more)
    (tmp_path / "major.jsonl").write_bytes(
        codec.encode(stamped(header(format=(2, 0)), seq=0, at_ms=1, mono_ns=0)) + more
    )

    view = load(tmp_path / "minor.jsonl")
    with pytest.raises(UnreadableRecordError) as caught:
        load(tmp_path / "major.jsonl")

    assert (view.run.format, view.health.unknown, [call.cmd for call in view.calls.values()]) == ((1, 7), 1, ["make"])
    assert (caught.value.theirs, caught.value.ours) == ("2.0", "1.0")
    assert "major.jsonl" in str(caught.value)
