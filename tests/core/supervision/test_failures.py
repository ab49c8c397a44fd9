"""What goes wrong in a service or a map besides its children: entry, probes, code of others, interrupts, and what is kept of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow import ready
from procflow._process.core import ProcessCore
from procflow._streams.waking import running
from procflow._supervision.supervisor import Supervisor
from procflow._supervision.values import forget_frames
from procflow.testing import FakeSpawner, UnscriptedError
from tests.patience import Growing

pytestmark = pytest.mark.anyio

SERVICE = pf.shell("echo up; exec sleep 1000", name="service")
NOW = pf.Shutdown.now()
FAST = pf.Restart.on_failure(initial_s=0.001, max_s=0.002, jitter=0, max_restarts=3)


class Interrupt(BaseException):
    """Stands for a Ctrl-C, which trio throws into whichever task runs."""


# --- entry ------------------------------------------------------------------------------------------------------------


async def test_whatever_keeps_the_first_process_from_starting_is_raised_on_entry(tmp_path: Path) -> None:
    """C-91: not only SpawnError: also what the system cannot give, and what a hook of others raises."""
    body = False
    with pytest.raises(pf.PlatformError):
        async with pf.supervise(SERVICE, containment=pf.Strict(user="no-such-user")):
            body = True
    with pytest.raises(pf.SpawnError):
        async with pf.supervise(SERVICE, stdout=tmp_path / "none" / "file"):
            body = True
    fake = FakeSpawner()
    async with fake.installed():
        with pytest.raises(UnscriptedError):
            async with pf.supervise(SERVICE):
                body = True
    assert not body


async def test_an_error_that_is_none_of_ours_leaves_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-91: what code of others raises in the driver cancels the body and leaves the block as it is, in no group."""

    def explode(*_: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"), monkeypatch.context() as patch:
        patch.setattr(Supervisor, "_begin_run", explode)
        async with pf.supervise(SERVICE, shutdown=NOW):
            await anyio.sleep_forever()
    with pytest.raises(ZeroDivisionError, match="mine"), monkeypatch.context() as patch:
        patch.setattr(Supervisor, "_decide", explode)
        async with pf.supervise(pf.Command("false"), shutdown=NOW):
            await anyio.sleep_forever()


# --- probes -----------------------------------------------------------------------------------------------------------


async def asks_another_process() -> bool:
    await pf.run(pf.shell("exit 2", name="is-it-up"))
    return True


async def cannot_end_another_process() -> bool:
    raise pf.TerminationError(process_name="another", survivors=["pid 1"], attempts=[])


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"ready": ready.call(asks_another_process)}, pf.ExitError),
        ({"ready": ready.call(cannot_end_another_process)}, pf.TerminationError),
        ({"ready": ready.line("up"), "stdout": pf.NULL}, pf.UsageError),
    ],
    ids=["exit", "termination", "usage"],
)
async def test_an_error_of_a_probe_is_no_failure_of_the_service(
    options: dict[str, object], cause: type[Exception]
) -> None:
    """C-91: what a probe raises besides NotReadyError fails the service at once, whatever its class."""
    with pytest.raises(pf.ServiceFailed, match="readiness probe") as caught:
        async with pf.supervise(SERVICE, restart=FAST, shutdown=NOW, **options):  # type: ignore[call-overload]
            await anyio.sleep_forever()

    assert isinstance(caught.value.__cause__, cause)
    assert len(caught.value.history) == 1


async def test_restarts_are_counted_on_the_clock_of_the_loop() -> None:
    """C-91: in virtual time a service that fails once an hour is within its limit of two a minute."""
    trio = pytest.importorskip("trio")
    testing = pytest.importorskip("trio.testing")
    runs: list[int] = []

    async def main() -> None:
        fake = FakeSpawner()
        fake.on("server").exits(1, after_s=3600)
        restart = pf.Restart.on_failure(max_restarts=2, within_s=60)
        async with fake.installed(), pf.supervise(pf.Command("server"), restart=restart) as service:
            await anyio.sleep(20 * 3600)
            runs.append(service.run_number)

    await anyio.to_thread.run_sync(partial(trio.run, main, clock=testing.MockClock(autojump_threshold=0)))
    assert runs == [20]


async def test_a_commanded_restart_during_backoff_counts_for_no_limit() -> None:
    """C-91: the restart that the backoff was waiting with does not count either."""
    backoff = Growing(0.2)
    while True:
        restart = pf.Restart.on_failure(initial_s=backoff.seconds, jitter=0, max_restarts=1)
        with pytest.raises(pf.ServiceFailed) as caught:
            async with pf.supervise(pf.Command("false"), restart=restart) as service:
                with anyio.fail_after(60):
                    while service.state is not pf.ServiceState.BACKOFF:
                        await anyio.sleep(0.001)
                await service.restart()
                await anyio.sleep_forever()
        if len(caught.value.history) == 3 or not backoff.grow():  # else the backoff was too short
            break
    assert len(caught.value.history) == 3


# --- interrupts -------------------------------------------------------------------------------------------------------


async def interrupted() -> bool:
    raise Interrupt


def interrupting() -> Iterator[pf.Command]:
    yield pf.Command("true")
    raise Interrupt


async def test_an_interrupt_of_one_of_our_tasks_leaves_as_itself() -> None:
    """C-91: a Ctrl-C that hits a task of ours leaves supervise(), map_run() and a probe bare, in no group."""
    with pytest.raises(Interrupt):
        async with pf.supervise(SERVICE, ready=ready.call(interrupted), shutdown=NOW):
            await anyio.sleep_forever()
    with pytest.raises(Interrupt):
        async with pf.map_run(interrupting(), max_running=2) as results:
            async for _ in results:
                pass
    with pytest.raises(Interrupt):
        async with pf.spawn(SERVICE, shutdown=NOW) as child:
            await child.wait_ready(ready.any(ready.call(interrupted), ready.line("never")))


async def test_an_interrupt_does_not_hide_a_group_of_errors() -> None:
    """C-91: a group without an interrupt in it stays a group."""

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with running("test", fails):
            await anyio.sleep_forever()
    assert caught.group_contains(ZeroDivisionError)


async def test_an_ended_service_says_what_it_is() -> None:
    """C-91: wait_ready() after the end says so, and nothing of a readiness that there was."""
    async with pf.supervise(pf.Command("true")) as service:
        await service.wait()
        with pytest.raises(pf.NotReadyError, match="true exited with 0 before it was asked for"):
            await service.wait_ready()


# --- what is kept -----------------------------------------------------------------------------------------------------


def live_processes() -> int:
    gc.collect()
    return sum(isinstance(thing, ProcessCore) for thing in gc.get_objects())


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, pf.shell("exit 1")),
        ({"ready": ready.line("never")}, pf.shell("exit 1")),
        ({"ready": ready.file("/nonexistent/ready")}, pf.shell("exit 1")),
        ({"ready": ready.line("never"), "ready_timeout_s": 0.01}, pf.shell("exec sleep 1000")),
    ],
    ids=["exit", "line", "file", "timeout"],
)
async def test_the_history_keeps_no_process_alive(options: dict[str, object], command: pf.Command) -> None:
    """C-91: errors of runs that are over hold what their attributes say, not the processes in their tracebacks."""
    before = live_processes()
    with pytest.raises(pf.ServiceFailed) as caught:
        async with pf.supervise(command, restart=FAST, shutdown=NOW, **options) as service:  # type: ignore[call-overload]
            await anyio.sleep_forever()

    history = service.history
    del caught, service
    assert len(history) == 4
    assert live_processes() == before


async def test_results_of_a_map_keep_no_process_alive() -> None:
    """C-90: an error that is a result holds its output and outcome, not the process in its traceback."""
    before = live_processes()
    kept: list[pf.MapResult] = []
    async with pf.map_run((pf.shell("exit 1") for _ in range(5)), max_running=2) as results:
        async for done in results:
            kept.append(done)
    del results

    assert len(kept) == 5
    assert all(isinstance(done.error, pf.ExitError) for done in kept)
    assert live_processes() == before


def test_frames_are_forgotten_along_the_whole_chain() -> None:
    """C-91: causes, contexts and members of groups too; a cycle ends."""

    def caught(raising: Callable[[], None]) -> Exception:
        try:
            raising()
        except Exception as error:
            return error
        raise AssertionError

    def inner() -> None:
        raise ValueError

    def middle() -> None:
        try:
            inner()
        except ValueError:
            raise KeyError from ExceptionGroup("several", [caught(inner)])

    error = caught(middle)
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    forget_frames(error)

    chain = [error, error.__cause__, error.__context__, error.__cause__.exceptions[0]]  # type: ignore[attr-defined]
    assert [exc and exc.__traceback__ for exc in chain] == [None] * 4
