"""C-81, C-85: what the guard knows against what the host has noted, whatever the channel takes and whenever the guard is lost."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import ClassVar

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import procflow as pf
from procflow._containment.guard import host as guard_module
from procflow._containment.guard.container import GuardedContainer
from procflow._containment.guard.host import GuardedHost, belongings, current_host
from procflow._containment.guard.process import GuardProcess
from procflow._containment.guard.token import new_variable
from procflow.command import HOST_VARIABLE_PREFIX
from procflow.testing import LeakError, assert_no_leaks

PREFIX = HOST_VARIABLE_PREFIX.decode()


class FakeGuard:
    """A guard that takes as many packets as there is room for."""

    exit_fd = channel = -1
    is_ready = True
    complaint = ""
    made: ClassVar[list[FakeGuard]] = []
    room = 0

    def __init__(self, variable: str) -> None:
        self.pid = len(self.made) + 1
        self.groups: set[int] = set()
        self.let_go: set[str] = set()
        self.acks: list[bytes] = []
        self.is_dead = False
        self.made.append(self)

    def send(self, packet: bytes) -> bool:
        if FakeGuard.room <= 0 or self.is_dead:
            return False
        FakeGuard.room -= 1
        for word in packet.decode().split():
            if word[0] == "+":
                self.groups.add(int(word[1:].partition(":")[0]))
            elif word[0] == "-":
                self.groups.discard(int(word[1:]))
            else:
                self.let_go.add(word[1:])
                self.acks.append(b"=" + word[1:].encode())
        return True

    def ring(self) -> None:
        pass

    def answers(self) -> Iterator[bytes]:
        acks, self.acks = self.acks, []
        yield from acks

    def has_ended(self) -> bool:
        return self.is_dead

    def end(self) -> None:
        self.is_dead = True


class Notes(RuleBasedStateMachine):
    """Any order of spawns, endings, departures, full channels and deaths of the guard."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = pytest.MonkeyPatch()
        self.undo.setattr(guard_module, "GuardProcess", FakeGuard)
        self.undo.setattr(guard_module, "on_replaced", lambda *_: None)
        self.undo.setattr(guard_module, "RETRY_DELAYS_S", (0.0,) * 1000)
        FakeGuard.made = []
        FakeGuard.room = 5
        self.host = GuardedHost()
        self.groups: set[int] = set()
        self.let_go: set[str] = set()
        self.host.admit()

    def teardown(self) -> None:
        self.undo.undo()

    @property
    def guard(self) -> FakeGuard:
        return FakeGuard.made[-1]

    @rule(group=st.integers(1, 6))
    def begins(self, group: int) -> None:
        self.host.admit()
        self.host.register(group)
        self.groups.add(group)

    @rule(group=st.integers(1, 6))
    def ends(self, group: int) -> None:
        self.host.unregister(group)
        self.groups.discard(group)

    @rule(group=st.integers(1, 6), value=st.integers(1, 9).map(str))
    def is_let_go(self, group: int, value: str) -> None:
        coroutine = self.host.let_go(value, [group])
        with contextlib.suppress(StopIteration, anyio.NoEventLoopError):
            coroutine.send(None)  # as far as the first wait
        coroutine.close()
        self.groups.discard(group)
        self.let_go.add(value)

    @rule(room=st.integers(0, 5))
    def channel_has_room(self, room: int) -> None:
        FakeGuard.room = room
        self.host.tend()

    @rule()
    def guard_dies(self) -> None:
        self.guard.is_dead = True

    @precondition(lambda self: self.guard.is_dead)
    @rule()
    def death_is_seen(self) -> None:
        before = len(FakeGuard.made)
        self.host.tend()
        assert len(FakeGuard.made) == before + 1

    @invariant()
    def what_is_untold_is_bounded_by_what_there_is(self) -> None:
        assert len(self.host._untold) <= 6 + len(self.let_go)

    @invariant()
    def catches_up(self) -> None:
        if self.guard.is_dead:
            return
        for group in self.groups:
            if self.host.why_unguarded([group]) is None:
                assert group in self.guard.groups
        if FakeGuard.room:
            self.host.tend()
        if FakeGuard.room:
            assert self.guard.groups == self.groups
            assert self.guard.let_go == self.let_go
            assert not self.host._untold


Notes.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestNotes = Notes.TestCase


def test_each_host_has_a_name_of_its_own() -> None:
    """C-80: nested hosts do not hide each other: one variable each."""
    mine, other = new_variable(), new_variable()

    assert mine != other
    assert mine.startswith(PREFIX)


@pytest.mark.anyio
async def test_replaced_environment_keeps_the_marks_of_outer_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-80: what is below a host is below its hosts, whatever environment it was given."""
    monkeypatch.setitem(os.environ, PREFIX + "outer", "5")
    monkeypatch.setattr(guard_module, "_hosts", {})
    command = pf.Command("env", inherit_env=False, env={"A": "1"})

    done = await pf.run(command)

    variable = current_host().variable
    names = {line.partition("=")[0] for line in done.stdout.lines}
    assert names == {"A", PREFIX + "outer", variable}
    current_host()._guard.end()  # type: ignore[union-attr]  # of a host that only this test has
    current_host()._guard = None
    for watch in current_host()._watches:
        watch._epoll.close()


@pytest.mark.anyio
@pytest.mark.parametrize("level", ["group", pf.Guarded(marks_environment=False), "strict"])
async def test_every_level_keeps_the_marks_of_outer_hosts(
    level: pf.ContainmentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-80: they are not this host's to give up, whatever it asks for."""
    monkeypatch.setitem(os.environ, PREFIX + "outer", "5")

    done = await pf.run(pf.Command("env", inherit_env=False), containment=level)

    assert f"{PREFIX}outer=5" in done.stdout.lines


@pytest.mark.anyio
async def test_an_observer_may_wait_for_another_thread() -> None:
    """C-92, C-81: nothing of the guard is locked while observers are told of it."""
    told: list[str] = []

    def observe(event: pf.ProcessEvent) -> None:
        if isinstance(event, pf.GuardReplaced):
            thread = threading.Thread(target=lambda: told.append(current_host().admit()))
            thread.start()
            thread.join(30)

    async with pf.spawn(pf.Command("sleep", "60"), shutdown=pf.Shutdown.now()) as child:
        with anyio.fail_after(30):
            while child.containment.level != "guarded":
                await anyio.sleep(0.005)
        with pf.observe(observe):
            os.kill(next(current_host().pids()), signal.SIGKILL)
            with anyio.fail_after(30):
                while not told:
                    await anyio.sleep(0.005)


@pytest.mark.anyio
async def test_values_differ_and_opting_out_leaves_the_environment_alone() -> None:
    """C-80: one value a spawn; Guarded(marks_environment=False) adds nothing."""
    variable = current_host().variable
    first, second = [(await pf.run(pf.Command("env"))).stdout.text for _ in range(2)]
    without = (await pf.run(pf.Command("env"), containment=pf.Guarded(marks_environment=False))).stdout.text

    values = [next(line for line in text.split("\n") if line.startswith(variable)) for text in (first, second)]
    assert values[0] != values[1]
    assert variable not in without
    group = (await pf.run(pf.Command("env"), containment="group")).stdout.text
    assert variable not in group


@pytest.mark.anyio
async def test_guard_is_no_leak_and_everything_else_still_is() -> None:
    """C-93: assert_no_leaks() knows exactly what belongs to the guard."""
    async with assert_no_leaks():
        await pf.run(pf.Command("true"))
        (pid,), descriptors = belongings()
        assert pid > 0
        assert len(descriptors) >= 2
    with pytest.raises(LeakError) as caught:
        with assert_no_leaks(settle_s=0.0):
            copies = [os.dup(fd) for fd in descriptors]
    for fd in copies:
        os.close(fd)
    assert len(caught.value.leaks) == len(descriptors)


@pytest.mark.anyio
async def test_what_a_fake_starts_is_not_guarded() -> None:
    """C-85: neither a given container nor another spawner has a layer above it."""
    from procflow._containment.choice import NO_BACKING
    from procflow._process.spawn import SpawnRequest
    from procflow._process.start import SpawnOptions, _make_container
    from procflow._process.stdio.plans import plan_stdio

    class Fake:
        def spawn(self, request: SpawnRequest) -> None:
            raise AssertionError

    nowhere = plan_stdio(pf.NULL, pf.NULL, pf.NULL, merge_stderr=False, default=pf.StreamConfig())
    real = _make_container(SpawnOptions(stdio=nowhere), NO_BACKING, is_pipeline=False)
    faked = _make_container(SpawnOptions(stdio=nowhere, spawner=Fake()), NO_BACKING, is_pipeline=False)  # type: ignore[arg-type]  # a fake

    assert isinstance(real, GuardedContainer)
    assert not isinstance(faked, GuardedContainer)
    real.close()


@pytest.mark.anyio
async def test_one_watch_while_anything_is_guarded() -> None:
    """C-81: the loop watches the guard from the first guarded process to the last one, once."""
    watch = current_host().watch()
    assert watch is not None
    assert watch._holders == 0
    async with pf.spawn(pf.Command("sleep", "300"), shutdown=pf.Shutdown.now()):
        async with pf.spawn(pf.Command("sleep", "300"), shutdown=pf.Shutdown.now()):
            assert watch._holders == 2
        assert watch._holders == 1
    with pytest.raises(pf.SpawnError):
        async with pf.spawn(pf.Command("no such program")):
            pass
    assert watch._holders == 0
    assert not current_host()._groups


def test_a_guard_says_what_it_is() -> None:
    """C-81: the books and the process have a repr."""
    host = GuardedHost()
    assert repr(host) == "<GuardedHost, 0 groups, None>"
    guard = GuardProcess(host.variable)
    try:
        assert repr(guard) == f"<GuardProcess {guard.pid}, starting>"
    finally:
        guard.end()
    guard.end()


@pytest.mark.parametrize(
    "backend", [("asyncio", False), ("asyncio", True), ("trio", False)], ids=["asyncio", "uvloop", "trio"]
)
def test_loops_that_are_over_leave_nothing(backend: tuple[str, bool]) -> None:
    """C-3, C-6: a program may run one event loop after the other, each with guarded children."""
    name, uses_uvloop = backend
    options = {"use_uvloop": uses_uvloop} if name == "asyncio" else {}

    def run_loops(count: int) -> int:
        for _ in range(count):
            anyio.run(pf.run, pf.Command("true"), backend=name, backend_options=options)
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = run_loops(2)
    assert run_loops(10) <= before


def test_system_without_a_clock_of_the_boot() -> None:
    """RR-104: macOS has neither that clock nor a guard, and starts processes all the same."""
    script = """
import time
del time.CLOCK_BOOTTIME
import anyio, procflow as pf
anyio.run(pf.run, pf.Command("true"))
"""
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PROCFLOW_NO_PIDFD": "1"}, check=True)
