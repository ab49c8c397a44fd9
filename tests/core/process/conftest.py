"""Every test of processes proves that it left nothing behind; children tell when they are ready, nobody sleeps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

import procflow as pf
from procflow.testing import FakeSpawner, assert_no_leaks


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("_no_task_leaks")
    with assert_no_leaks():
        yield


@pytest.fixture
async def _no_task_leaks(anyio_backend: object) -> AsyncIterator[None]:
    # The plug-in runs fixtures and test in tasks of its own, so only ours can be told.
    yield
    with anyio.move_on_after(5):
        while left := [task.name for task in anyio.get_running_tasks() if (task.name or "").startswith("procflow")]:
            await anyio.sleep(0.01)
    assert not left


@pytest.fixture
async def immortal(anyio_backend: object) -> AsyncIterator[pf.Command]:
    """A command whose process hangs in the kernel: it takes every signal and never ends."""
    fake = FakeSpawner()
    fake.on("immortal").survives_everything()
    async with fake.installed():
        yield pf.Command("immortal")


@pytest.fixture
def observed() -> Iterator[list[pf.ProcessEvent]]:
    """Everything that is told, in order; checked at the end: nothing is signalled by a number that was given up (C-66)."""
    events: list[pf.ProcessEvent] = []
    with pf.observe(events.append):
        yield events
    require_order(events)


def require_order(events: list[pf.ProcessEvent]) -> None:
    """C-66: no leader is reaped twice, and after the reaping neither it nor its group is signalled, not even in vain."""
    reaped: set[int] = set()
    for event in events:
        match event:
            case pf.Spawned(pid=pid):
                reaped.discard(pid)
            case pf.Reaped(pid=pid):
                assert pid not in reaped, "reaped twice"
                reaped.add(pid)
            case pf.Signalled(to="leader" | "group", receiver=receiver):
                assert receiver not in reaped, "signalled after the reaping"
            case _:
                pass


def python(script: str, *arguments: str) -> pf.Command:
    """Return a command that runs ``script`` in a bare interpreter, unbuffered."""
    return pf.Command(sys.executable, "-I", "-S", "-u", "-c", script, *arguments, name="python")


def process_state(pid: int) -> str | None:
    """The letter of the kernel for the state of ``pid``; ``None`` if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid: int) -> bool:
    """Whether ``pid`` runs; zombies do not."""
    return process_state(pid) not in (None, "Z", "X")


def group_is_gone(pgid: int) -> bool:
    """Whether no process of the group is alive; a zombie that init has not taken yet does not count."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return True
    for name in os.listdir("/proc"):
        if name.isdigit() and is_alive(int(name)):
            try:
                if os.getpgid(int(name)) == pgid:
                    return False
            except ProcessLookupError:
                continue
    return True


ON_ONE_BACKEND = pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {}), id="asyncio")])
"""For tests that only wait for a host of its own, whose back end is not theirs."""

PATIENT_LAST_RESORT = "from procflow._process.stopping import last_resort; last_resort.KILL_WAIT_S = 10.0\n"
"""For hosts of their own: as ``patient_last_resort``."""


@pytest.fixture
def patient_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last resort wait longer than its 100 ms: a busy machine runs late what is to die, and that is not the subject."""
    monkeypatch.setattr("procflow._process.stopping.last_resort.KILL_WAIT_S", 10.0)


@pytest.fixture
def sigchld_ignored() -> Iterator[None]:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)
