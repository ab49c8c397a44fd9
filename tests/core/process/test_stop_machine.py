"""The stop algorithm against a naive model of a tree: no clock, no processes."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow._process.stopping.stop import UNCATCHABLE, Finished, Look, Reap, RunFirst, Seen, Send, StopMachine, Wait
from procflow.policies import Phase, Shutdown, Target

CATCHABLE = [s for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) if s not in UNCATCHABLE]


@dataclass
class ModelProcess:
    """Dies ``delay_s`` after the first signal it obeys; ``None``: never."""

    obeys: frozenset[signal.Signals]
    delay_s: float
    kill_delay_s: float | None
    permits: bool = True
    dies_at_s: float | None = None

    def receive(self, number: signal.Signals, now_s: float) -> None:
        delay_s = self.kill_delay_s if number is signal.SIGKILL else self.delay_s if number in self.obeys else None
        if delay_s is not None:
            at_s = now_s + delay_s
            self.dies_at_s = at_s if self.dies_at_s is None else min(self.dies_at_s, at_s)

    def is_alive(self, now_s: float) -> bool:
        return self.dies_at_s is None or now_s < self.dies_at_s


class Model:
    """A tree in virtual time, and a driver that does what the machine says and nothing else."""

    def __init__(
        self, leader: ModelProcess, others: list[ModelProcess], *, can_look: bool, tick_s: float = 0.02
    ) -> None:
        self.leader, self.others, self.can_look, self.tick_s = leader, others, can_look, tick_s
        self.now_s = 0.0
        self.is_reaped = False
        self.sent: list[tuple[float, signal.Signals, Target, bool]] = []
        self.sent_after_reap = 0
        self.escalate_at_s: float | None = None

    def seen(self) -> Seen:
        alive = sum(other.is_alive(self.now_s) for other in self.others)
        if self.leader.is_alive(self.now_s):
            return Seen(is_leader_running=True, others=None)
        if self.is_reaped and alive == 0:
            return Seen(is_leader_running=False, others=0)  # the probe needs no look
        return Seen(is_leader_running=False, others=alive if self.can_look else None)

    def send(self, send: Send) -> OSError | None:
        self.sent.append((self.now_s, send.signal, send.to, send.resume))
        self.sent_after_reap += self.is_reaped
        targets = [self.leader] if send.to is Target.LEADER else [self.leader, *self.others]
        permitted = [target for target in targets if target.permits or not target.is_alive(self.now_s)]
        if not permitted:
            return PermissionError(errno.EPERM, "no")
        for target in permitted:
            target.receive(send.signal, self.now_s)
        return None

    def run(self, machine: StopMachine, *, first_takes_s: float | None = 0.0) -> bool:
        for _ in range(100_000):
            if self.escalate_at_s is not None and self.now_s >= self.escalate_at_s:
                machine.escalate(self.now_s)
            match machine.next(self.now_s, self.seen()):
                case RunFirst(until_s):
                    took_s = until_s - self.now_s if first_takes_s is None else min(first_takes_s, until_s - self.now_s)
                    self.now_s += took_s
                    machine.first_done(self.now_s, error=None)
                case Send() as send:
                    machine.sent(self.now_s, self.send(send))
                case Look():
                    pass
                case Reap():
                    self.is_reaped = True
                case Wait(until_s):
                    assert until_s > self.now_s
                    self.now_s = min(until_s, self.now_s + self.tick_s)
                case Finished(is_complete):
                    return is_complete
        raise AssertionError("the machine does not come to an end")


delays = st.floats(0, 3, allow_nan=False)


@st.composite
def processes(draw: st.DrawFn) -> ModelProcess:
    return ModelProcess(
        obeys=draw(st.frozensets(st.sampled_from(CATCHABLE))),
        delay_s=draw(delays),
        kill_delay_s=draw(st.one_of(st.just(0.0), delays, st.none())),
        permits=draw(st.booleans()),
    )


@st.composite
def shutdowns(draw: st.DrawFn) -> Shutdown:
    phases = draw(
        st.lists(
            st.builds(
                Phase, signal=st.sampled_from([*CATCHABLE, signal.SIGKILL]), wait_s=delays, to=st.sampled_from(Target)
            ),
            max_size=3,
        )
    )

    async def first() -> None: ...

    return Shutdown(
        phases=tuple(phases),
        kill_wait_s=draw(st.floats(0.01, 3)),
        first=first if draw(st.booleans()) else None,
        first_wait_s=draw(delays),
    )


@settings(max_examples=400, deadline=None)
@given(
    shutdown=shutdowns(),
    leader=processes(),
    others=st.lists(processes(), max_size=3),
    can_look=st.booleans(),
    first_takes_s=st.one_of(st.none(), delays),
    escalate_at_s=st.one_of(st.none(), delays),
)
def test_any_tree_is_ended_or_reported_within_the_bound(
    shutdown: Shutdown,
    leader: ModelProcess,
    others: list[ModelProcess],
    can_look: bool,
    first_takes_s: float | None,
    escalate_at_s: float | None,
) -> None:
    """C-64: total time <= the sum of the waits, always; survivors are reported; nothing is signalled after the reaping (TPT 193)."""
    model = Model(leader, others, can_look=can_look)
    model.escalate_at_s = escalate_at_s
    machine = StopMachine(shutdown)

    is_complete = model.run(machine, first_takes_s=first_takes_s)

    assert model.now_s <= shutdown.total_s + 1e-6
    anybody_alive = any(process.is_alive(model.now_s) for process in (leader, *others))
    assert is_complete == (not anybody_alive)
    assert model.sent_after_reap == 0
    assert [sent[1] for sent in model.sent if sent[2] is Target.TREE][-1:] == [signal.SIGKILL]
    assert model.is_reaped == (not leader.is_alive(model.now_s))
    for _, number, _, resume in model.sent:
        assert resume == (number not in UNCATCHABLE)
    if escalate_at_s is not None:
        assert model.now_s <= escalate_at_s + shutdown.kill_wait_s + 3.0 + model.tick_s  # 3.0: a first that blocks
    assert len(machine.reports) <= len(shutdown.phases) + 2


@settings(max_examples=200, deadline=None)
@given(wait_s=st.floats(0.1, 3), dies_after_s=st.floats(0, 4), others=st.integers(0, 2))
def test_a_phase_is_an_upper_bound(wait_s: float, dies_after_s: float, others: int) -> None:
    """C-64: a phase ends one tick after the group is empty, not when its time is up."""
    obeys = frozenset({signal.SIGTERM})
    model = Model(
        ModelProcess(obeys, 0.0, 0.0), [ModelProcess(obeys, dies_after_s, 0.0) for _ in range(others)], can_look=True
    )
    machine = StopMachine(Shutdown.sigterm(wait_s))

    assert model.run(machine)

    ends_at_s = min(wait_s, dies_after_s if others else 0.0)
    assert model.now_s <= ends_at_s + model.tick_s + 1e-9


def test_a_refused_signal_is_noted_and_not_waited_out() -> None:
    """C-64: EPERM is reported as "not permitted", and the phase does not wait for what it could not ask (TPT 185, 188)."""
    stranger = ModelProcess(frozenset(), 0.0, None, permits=False)
    model = Model(stranger, [], can_look=True)
    machine = StopMachine(Shutdown.sigterm(60.0, kill_wait_s=0.5))

    assert not model.run(machine)

    assert model.now_s == pytest.approx(0.5)
    assert [report.error for report in machine.reports] == ["not permitted", "not permitted"]


def test_a_group_that_outlives_its_leader_is_swept_before_the_reaping() -> None:
    """C-65: a leader that exits in the graceful phase still has its group killed, and only then is it reaped."""
    leader = ModelProcess(frozenset({signal.SIGTERM}), 0.0, 0.0)
    deaf = ModelProcess(frozenset(), 0.0, 0.0)
    model = Model(leader, [deaf], can_look=True)
    machine = StopMachine(Shutdown.sigterm(1.0))

    assert model.run(machine)

    assert [(round(at, 3), number) for at, number, _, _ in model.sent] == [(0.0, signal.SIGTERM), (1.0, signal.SIGKILL)]
    assert model.is_reaped


def test_an_empty_group_is_swept_too_but_that_is_no_attempt() -> None:
    """C-66: the last signal precedes the reaping even if nobody seems to be left; it does not count as an escalation."""
    leader = ModelProcess(frozenset({signal.SIGTERM}), 0.0, 0.0)
    model = Model(leader, [], can_look=True)
    machine = StopMachine(Shutdown.sigterm(1.0))

    assert model.run(machine)

    assert [number for _, number, _, _ in model.sent] == [signal.SIGTERM, signal.SIGKILL]
    assert [report.signal for report in machine.reports] == [signal.SIGTERM]
    assert machine.reports[0].ended


def test_where_nobody_can_look_the_leaders_exit_brings_the_sweep() -> None:
    """C-65: without /proc the group of an exited leader is killed at once, since its emptiness cannot be seen."""
    leader = ModelProcess(frozenset({signal.SIGTERM}), 0.0, 0.0)
    deaf = ModelProcess(frozenset(), 0.0, 0.0)
    model = Model(leader, [deaf], can_look=False)

    assert model.run(StopMachine(Shutdown.sigterm(60.0)))

    assert model.now_s < 0.1


def test_the_protocol_shutdown_is_given_time_to_work() -> None:
    """C-64: an async callable comes first; what it brings about is awaited before the first signal."""

    async def first() -> None: ...

    leader = ModelProcess(frozenset(), 0.0, 0.0, dies_at_s=0.5)
    model = Model(leader, [], can_look=True)
    machine = StopMachine(Shutdown(phases=(Phase(signal=signal.SIGTERM, wait_s=1.0),), first=first, first_wait_s=2.0))

    assert model.run(machine)

    assert [number for _, number, _, _ in model.sent] == [signal.SIGKILL]
    assert machine.reports[0].signal is None
    assert machine.reports[0].ended


def test_escalation_skips_what_is_left_of_the_phases() -> None:
    """C-66: kill() during a patient stop sends SIGKILL at the next step, once."""
    model = Model(ModelProcess(frozenset(), 0.0, 0.0), [], can_look=True)
    model.escalate_at_s = 0.1
    machine = StopMachine(Shutdown.sigterm(60.0))

    assert model.run(machine)

    assert [number for _, number, _, _ in model.sent] == [signal.SIGTERM, signal.SIGKILL]
    assert model.now_s < 0.2


def test_presets_are_what_they_say() -> None:
    """C-64: presets sigterm, sigint, orderly (leader first, then group), now; their total is the sum (TPT 199)."""
    assert [p.signal for p in Shutdown.sigterm(3).phases] == [signal.SIGTERM]
    assert [p.signal for p in Shutdown.sigint(3).phases] == [signal.SIGINT]
    assert [p.to for p in Shutdown.orderly(1, 2).phases] == [Target.LEADER, Target.GROUP]
    assert Shutdown.now().phases == ()
    assert Shutdown.orderly(1, 2, kill_wait_s=3).total_s == 6
