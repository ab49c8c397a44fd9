"""Whether and when a service is started again: pure decisions, time and chance handed in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import procflow as pf
from procflow._supervision.restart import Again, GivenUp, Over, RestartMachine

CHANCE = st.floats(0, 1, exclude_max=True)
ENDINGS = st.lists(
    st.tuples(
        st.booleans(),  # has it failed?
        st.floats(0, 100),  # how long did it last?
        st.floats(0, 50),  # how much later than the last decision is this one, besides?
        CHANCE,
    ),
    max_size=60,
)
POLICIES = st.builds(
    lambda when, initial_s, ratio, factor, jitter, max_restarts, within_s: pf.Restart(
        when=when,
        initial_s=initial_s,
        max_s=initial_s * ratio,
        factor=factor,
        jitter=jitter,
        max_restarts=max_restarts,
        within_s=within_s,
    ),
    st.sampled_from(pf.RestartWhen),
    st.floats(0.001, 10),
    st.floats(1, 1000),
    st.floats(1, 10),
    st.floats(0, 1),
    st.none() | st.integers(0, 8),
    st.floats(0.1, 100),
)


@given(POLICIES, ENDINGS)
def test_restarts_keep_to_the_intensity_limit_and_the_backoff(
    policy: pf.Restart, endings: list[tuple[bool, float, float, float]]
) -> None:
    """C-91: in no window are there more restarts than allowed; every pause is between the jittered and the full backoff."""
    machine, now_s, row = RestartMachine(policy), 0.0, 0
    starts: list[float] = []
    for has_failed, lasted_s, later_s, chance in endings:
        now_s += lasted_s + later_s
        decision = machine.after(has_failed=has_failed, lasted_s=lasted_s, now_s=now_s, chance=chance)

        wants = policy.when is pf.RestartWhen.ALWAYS or (policy.when is pf.RestartWhen.ON_FAILURE and has_failed)
        recent = [at for at in starts if at > now_s - policy.within_s]
        if not wants:
            assert decision == (GivenUp(0) if has_failed else Over())
            break
        if policy.max_restarts is not None and len(recent) >= policy.max_restarts:
            assert decision == GivenUp(policy.max_restarts)
            break
        assert isinstance(decision, Again)
        row = 0 if lasted_s >= policy.within_s else row
        full_s = min(policy.initial_s * policy.factor**row, policy.max_s)
        assert full_s * (1 - policy.jitter) <= decision.delay_s <= full_s
        row += 1
        now_s += decision.delay_s
        starts.append(now_s)

    if policy.max_restarts:
        for first, beyond in zip(starts, starts[policy.max_restarts :], strict=False):
            assert beyond - first >= policy.within_s * 0.999


@given(st.integers(0, 5000))
def test_a_service_that_fails_for_ever_waits_the_longest_pause(failures: int) -> None:
    """C-91: without a limit the backoff grows to its bound and stays there, however often it fails."""
    machine = RestartMachine(pf.Restart.on_failure(max_restarts=None, jitter=0, initial_s=0.5, max_s=8))

    decision = None
    for number in range(failures + 5):
        decision = machine.after(has_failed=True, lasted_s=0, now_s=number, chance=0.9)

    assert decision == Again(8)


def test_a_run_that_lasted_begins_the_backoff_anew() -> None:
    """C-91: failures in a row wait longer and longer; one after a long run, or after a commanded restart, does not."""
    machine = RestartMachine(pf.Restart.on_failure(jitter=0, max_restarts=None))

    def delay_s(lasted_s: float) -> object:
        return machine.after(has_failed=True, lasted_s=lasted_s, now_s=1e6, chance=0)

    assert [delay_s(0), delay_s(0), delay_s(0)] == [Again(0.2), Again(0.4), Again(0.8)]
    assert [delay_s(61), delay_s(0)] == [Again(0.2), Again(0.4)]
    machine.commanded(now_s=1e6)
    assert delay_s(0) == Again(0.2)


def test_a_commanded_restart_in_a_backoff_takes_the_place_of_the_one_that_was_due() -> None:
    """C-91: what is commanded counts for no limit, also if it cuts a pause short; one whose pause was over counts."""
    machine = RestartMachine(pf.Restart.on_failure(initial_s=1, jitter=0, max_restarts=1))

    assert machine.after(has_failed=True, lasted_s=0, now_s=10, chance=0) == Again(1)
    machine.commanded(now_s=10.5)
    assert machine.after(has_failed=True, lasted_s=0, now_s=11, chance=0) == Again(1)
    machine.commanded(now_s=12.5)
    assert machine.after(has_failed=True, lasted_s=0, now_s=13, chance=0) == GivenUp(1)


@pytest.mark.parametrize(
    ("policy", "has_failed", "expected"),
    [
        (pf.Restart.never(), False, Over),
        (pf.Restart.never(), True, GivenUp),
        (pf.Restart.on_failure(), False, Over),
        (pf.Restart.on_failure(), True, Again),
        (pf.Restart.on_failure(max_restarts=0), True, GivenUp),
        (pf.Restart.always(), False, Again),
        (pf.Restart.always(), True, Again),
    ],
)
def test_the_policy_says_after_which_endings_it_starts_again(
    policy: pf.Restart, has_failed: bool, expected: type
) -> None:
    """C-91: never, on failure, always."""
    decision = RestartMachine(policy).after(has_failed=has_failed, lasted_s=1, now_s=10, chance=0.5)

    assert isinstance(decision, expected)


@pytest.mark.parametrize("make", [pf.Restart.on_failure, pf.Restart.always])
def test_the_longest_pause_follows_a_longer_first_one(make: Callable[..., pf.Restart]) -> None:
    """C-91: initial_s alone may be any time: max_s is 30 s by default, or as long as that."""
    assert [make(initial_s=initial_s).max_s for initial_s in (0.2, 60)] == [30, 60]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"initial_s": 0}, ValueError),
        ({"max_s": 0.1}, ValueError),
        ({"factor": 0.5}, ValueError),
        ({"factor": float("nan")}, ValueError),
        ({"jitter": 1.5}, ValueError),
        ({"max_restarts": -1}, ValueError),
        ({"max_restarts": True}, TypeError),
        ({"within_s": 0}, ValueError),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(changes: dict[str, float], error: type[Exception]) -> None:
    """C-91: what is wrong with a policy is said where it is made."""
    with pytest.raises(error):
        pf.Restart.on_failure(**changes)  # type: ignore[arg-type]
