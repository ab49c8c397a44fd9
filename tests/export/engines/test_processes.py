"""The processes engine with real workers, real kills and workers that misbehave."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest

import procflow
from procflow.testing import assert_no_leaks
from procflow_export.engines.processes import ProcessEngine, worker_command
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, MisuseError, WorkerError
from procflow_export.model.events import UnitEvent, UnitProgress, UnitStarted, UnitWarning
from tests.export.engines.units import ROWS, Units

pytestmark = pytest.mark.anyio

READY = '{"type":"worker_ready","protocol":2,"pid":1,"seq":0,"at_ms":0,"mono_ns":0}'


class Heard:
    """Collects events and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: list[UnitEvent] = []
        self._changed = anyio.Event()

    def __call__(self, event: UnitEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for(self, kind: type[UnitEvent], count: int = 1) -> None:
        while sum(isinstance(event, kind) for event in self.events) < count:
            await self._changed.wait()

    @property
    def pids(self) -> list[int]:
        return [event.pid for event in self.events if isinstance(event, UnitStarted)]


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], str]:
    """Make an executable that stands in for the interpreter of the workers and does what a script says."""

    def make(script: str) -> str:
        path = tmp_path / "fake-python"
        path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


async def test_workers_are_started_late_bounded_and_used_again(units: Units) -> None:
    """E-31: persistent workers, at most max_units of them, started when needed."""
    heard = Heard()
    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=2) as engine:
            assert engine.started_count == 0
            async with anyio.create_task_group() as group:
                for index in range(6):
                    group.start_soon(engine.execute, units.chunk(index, ROWS // 5), heard)
            running = engine.worker_pids

    assert engine.started_count == 2
    assert len(heard.pids) == 6
    assert set(heard.pids) == set(running)
    assert units.row_count() == ROWS
    assert engine.worker_pids == ()
    assert engine.remarks == ()


async def test_a_unit_that_fails_leaves_its_worker_alone(units: Units) -> None:
    heard = Heard()
    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=1) as engine:
            with pytest.raises(ExportError) as caught:
                await engine.execute(units.missing(), heard)
            result = await engine.execute(units.unit(), heard)

    assert caught.value.code.name.startswith("SOURCE")
    assert result.row_count == ROWS
    assert engine.started_count == 1


async def test_a_killed_worker_fails_its_unit_only_and_is_replaced(units: Units) -> None:
    """E-31, E-32: SIGKILL of a child fails its own unit, with outcome and as transient; the others go on."""
    killed, spared = Heard(), Heard()
    errors: list[ExportError] = []

    async def doomed(engine: ProcessEngine) -> None:
        try:
            await engine.execute(units.slow(7), killed)
        except ExportError as exc:
            errors.append(exc)

    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=2) as engine:
            async with anyio.create_task_group() as group:
                group.start_soon(doomed, engine)
                await killed.wait_for(UnitProgress)
                group.start_soon(engine.execute, units.chunk(0, ROWS), spared)
                await spared.wait_for(UnitStarted)
                os.kill(killed.pids[0], signal.SIGKILL)
            again = await engine.execute(units.chunk(1, ROWS), Heard())

    [error] = errors
    assert isinstance(error, WorkerError)
    assert error.code is Code.WORKER_DIED
    assert error.is_transient
    assert f"process {killed.pids[0]} was ended by SIGKILL" in error.message
    assert again.row_count == 0
    assert units.row_count() == ROWS
    assert all("c00007" not in name for name in units.files())


async def test_an_idle_worker_that_died_is_replaced(units: Units) -> None:
    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=1) as engine:
            heard = Heard()
            await engine.execute(units.chunk(0, ROWS), heard)
            [pid] = heard.pids
            os.kill(pid, signal.SIGKILL)
            while pid in engine.worker_pids:
                await anyio.sleep(0.01)
            await engine.execute(units.chunk(0, ROWS), heard)

    assert engine.started_count == 2


async def test_cancelling_a_unit_leaves_no_file_and_a_usable_worker(units: Units) -> None:
    """E-34: cancelling gives the unit up by the protocol: nothing visible stays, the worker goes on."""
    heard = Heard()
    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=1) as engine:
            async with anyio.create_task_group() as group:
                group.start_soon(engine.execute, units.slow(), heard)
                await heard.wait_for(UnitProgress, 2)
                group.cancel_scope.cancel()
            assert units.files() == []
            result = await engine.execute(units.unit(), heard)

    assert result.row_count == ROWS
    assert engine.started_count == 1


@pytest.mark.parametrize("how", ["error", "cancel"])
async def test_leaving_the_engine_ends_every_worker(units: Units, how: str) -> None:
    """E-34: leaving the engine's block, by an error or a cancellation, ends workers in the middle of their units."""
    heard = Heard()
    with anyio.fail_after(100):
        async with assert_no_leaks():
            with anyio.CancelScope() as scope:
                try:
                    async with ProcessEngine(max_units=2) as engine, anyio.create_task_group() as group:
                        group.start_soon(engine.execute, units.slow(0), heard)
                        group.start_soon(engine.execute, units.slow(1), heard)
                        await heard.wait_for(UnitStarted, 2)
                        await heard.wait_for(UnitProgress, 2)
                        if how == "error":
                            raise ZeroDivisionError
                        scope.cancel()
                except* ZeroDivisionError:
                    pass

    assert not any(psutil.pid_exists(pid) for pid in heard.pids)
    assert units.files() == []


async def test_the_caller_s_exception_passes_as_it_is(units: Units) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ProcessEngine(max_units=1):
            raise ZeroDivisionError


async def test_noise_on_the_protocol_is_counted_and_shown(units: Units, fake_python: Callable[[str], str]) -> None:
    """E-32: a line that does not parse is counted and shown, never fatal."""
    python = fake_python(
        "print('ouch \\x1b[31m', flush=True)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )  # fmt: skip
    heard = Heard()
    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=1, python=python) as engine:
            result = await engine.execute(units.unit(), heard)

    warnings = [event for event in heard.events if isinstance(event, UnitWarning)]
    assert result.row_count == ROWS
    assert engine.malformed_lines == 1
    assert warnings[0].code == "WORKER_PROTOCOL"
    assert "ouch" in warnings[0].message


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("sys.exit('cannot import numpy')", Code.WORKER_NOT_STARTED, "could not begin: it exited with 1"),
        (f"print({READY!r}, flush=True); sys.exit('first and last words')", Code.WORKER_DIED, "exited with 1"),
        (f"print({READY!r}, flush=True); os.kill(os.getpid(), signal.SIGSEGV)", Code.WORKER_DIED, "SIGSEGV"),
        (f"print({READY!r}, flush=True); os.close(1); time.sleep(1000)", Code.WORKER_DIED, "was ended by SIGTERM"),
        (f"print({READY.replace(':2,', ':99,', 1)!r}, flush=True); time.sleep(1000)", Code.WORKER_NOT_STARTED, "protocol 99"),
    ],
    ids=["before ready", "after ready", "crash", "closed output", "other protocol"],
)  # fmt: skip
async def test_a_worker_without_an_answer_gives_one_anyway(
    units: Units, fake_python: Callable[[str], str], script: str, code: Code, words: str
) -> None:
    """E-32: a child that dies without `finished` gets a synthetic one with outcome and stderr tail."""
    with anyio.fail_after(100):
        async with assert_no_leaks(), ProcessEngine(max_units=1, python=fake_python(script)) as engine:
            with pytest.raises(WorkerError) as caught:
                await engine.execute(units.unit(), Heard())

    assert caught.value.code is code
    assert words in caught.value.message
    if "sys.exit" in script:
        assert caught.value.failure().stderr_tail in ("cannot import numpy", "first and last words")


async def test_a_worker_that_ignores_everything_is_killed(units: Units, fake_python: Callable[[str], str]) -> None:
    """E-34: every child is ended by the core's phases, the last of which nothing survives."""
    python = fake_python(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"print({READY!r}, flush=True)\n"
        "print('{\"type\":\"heartbeat\"}', flush=True)\n"
        "while True: time.sleep(1000)"
    )  # fmt: skip
    heard = Heard()
    shutdown = procflow.Shutdown.sigterm(grace_s=0.2)
    with anyio.fail_after(60):
        async with assert_no_leaks(), ProcessEngine(max_units=1, python=python, shutdown=shutdown) as engine:
            async with anyio.create_task_group() as group:
                group.start_soon(engine.execute, units.unit(), heard)
                while not heard.events:
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()


async def test_secrets_in_last_words_are_masked(
    units: Units, fake_python: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-2: what a worker says in its agony is shown without the secrets it was given."""
    from procflow_export.model.settings import SourceConfig, SourceType

    monkeypatch.setenv("SHOP_URL", "postgresql://me:hunter2@db.example/shop")
    python = fake_python("sys.exit('cannot connect to ' + os.environ['SHOP_URL'] + ' with hunter2')")
    source = SourceConfig(type=SourceType.POSTGRES, url_env="SHOP_URL")
    with anyio.fail_after(60):
        async with ProcessEngine(max_units=1, python=python) as engine:
            with pytest.raises(WorkerError) as caught:
                await engine.execute(units.unit(source=source), Heard())

    assert caught.value.stderr_tail == "cannot connect to *** with ***"
    assert all("hunter2" not in remark.text for remark in engine.remarks)


async def test_an_interpreter_that_does_not_exist_is_named(units: Units) -> None:
    with anyio.fail_after(60):
        async with assert_no_leaks(), ProcessEngine(max_units=1, python="/nowhere/python") as engine:
            with pytest.raises(WorkerError) as caught:
                await engine.execute(units.unit(), Heard())

    assert caught.value.code is Code.WORKER_NOT_STARTED
    assert "/nowhere/python" in caught.value.message


async def test_modules_in_the_working_directory_do_not_break_workers(
    units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-31: workers import from where the parent does, and never from where it happens to stand."""
    (tmp_path / "random.py").write_text("raise SystemExit('wrong random')")
    (tmp_path / "pyarrow.py").write_text("raise SystemExit('wrong pyarrow')")
    monkeypatch.chdir(tmp_path)
    with anyio.fail_after(60):
        async with assert_no_leaks(), ProcessEngine(max_units=1) as engine:
            assert (await engine.execute(units.unit(), Heard())).row_count == ROWS


def test_no_secret_and_no_path_of_a_unit_is_on_a_command_line() -> None:
    """E-2: tasks travel on standard input; the command line says that it is a worker, and how much memory it may have."""
    command = worker_command(3, memory_mb=300)

    assert command.arguments == ("-P", "-m", "procflow_export", "worker", "--memory", "300")
    assert command.name == "worker-3"


async def test_misuse_is_told() -> None:
    with pytest.raises(MisuseError):
        ProcessEngine(max_units=0)
    engine = ProcessEngine(max_units=1)
    async with engine:
        pass
    with pytest.raises(MisuseError):
        await engine.__aenter__()


async def test_workers_get_the_environment_that_the_host_gives(
    units: Units, fake_python: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-65: an embedding service says what its workers see; nothing else of its environment reaches them."""
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    python = fake_python("sys.exit(f\"{os.environ.get('GIVEN')} {os.environ.get('SECRET_OF_THE_HOST')}\")")
    environ = {"GIVEN": "yes", "PATH": os.environ["PATH"]}
    with anyio.fail_after(60):
        async with ProcessEngine(max_units=1, python=python, environ=environ) as engine:
            with pytest.raises(WorkerError) as caught:
                await engine.execute(units.unit(), Heard())

    assert caught.value.stderr_tail == "yes None"
