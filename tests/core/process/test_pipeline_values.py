"""The pure parts of pipelines: the value, and the decision how one ended."""

from __future__ import annotations

import copy
import pickle
import signal
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import procflow as pf
from procflow._process.pipelines.pipefail import deciding_stage, pipeline_outcome

A, B, C = pf.Command("/bin/a", "secret"), pf.Command("b"), pf.Command("c", name="see")


def outcome(status: int, *, name: str = "x", ended_by: pf.EndedBy = pf.EndedBy.ITSELF, at: float = 0.0) -> pf.Outcome:
    """Return an outcome; a negative status is a signal, and 999 means unknown."""
    is_exit = 0 <= status < 999
    return pf.Outcome(
        name=name,
        pid=1,
        exit_code=status if is_exit else None,
        signal=-status if status < 0 else None,
        core_dumped=False,
        ended_by=ended_by,
        started_at=datetime.fromtimestamp(at, UTC),
        ended_at=datetime.fromtimestamp(at + 1, UTC),
        started_mono_s=at,
        ended_mono_s=at + 1,
    )


def test_joining_is_associative() -> None:
    """C-9: however a pipeline is put together, it is the same frozen value."""
    pipeline = A | B | C

    assert pipeline == (A | B) | C == A | (B | C) == (A | B) | pf.Pipeline(C) == pf.Pipeline(A, B, C)
    assert hash(pipeline) == hash(A | (B | C))
    assert pipeline.stages == (A, B, C)
    with pytest.raises(AttributeError):
        pipeline.name = "other"  # type: ignore[misc]  # frozen


def test_name_holds_no_arguments() -> None:
    """C-9, C-2: the name is made of the names of the stages; a given one replaces it."""
    assert (A | B | C).name == "a | b | see"
    assert pf.Pipeline(A, B, name="both").name == "both"
    assert "secret" not in repr(A | B)


def test_a_pipeline_can_be_copied_and_pickled() -> None:
    """C-9: it crosses processes as a command does."""
    pipeline = pf.Pipeline(A, B, name="both")

    assert pickle.loads(pickle.dumps(pipeline)) == copy.deepcopy(pipeline) == pipeline


def test_only_commands_can_be_joined() -> None:
    """C-9: a text is no command, so it is no stage either."""
    with pytest.raises(TypeError):
        A | "wc -l"  # type: ignore[operator]  # the point of the test
    with pytest.raises(TypeError, match="made of commands"):
        pf.Pipeline(A, "wc")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ValueError, match="at least one"):
        pf.Pipeline()


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((0, 0, 0), 2),
        ((1, 0, 0), 0),
        ((1, 2, 0), 1),
        ((1, 2, 3), 2),
        ((-signal.SIGPIPE, 0), 1),
        ((141, 0), 1),
        ((-signal.SIGPIPE, 2), 1),
        ((2, -signal.SIGPIPE, 0), 0),
        ((0, -signal.SIGPIPE), 1),
        ((0, 141), 1),
        ((-signal.SIGKILL, -signal.SIGPIPE, 0), 0),
        ((999, 0), 0),
        ((141,), 0),
    ],
)
def test_the_last_failure_decides_and_a_cut_stage_is_forgiven(statuses: tuple[int, ...], expected: int) -> None:
    """C-9: pipefail; SIGPIPE, or a shell's 141 for it, is forgiven to every stage but the last."""
    assert deciding_stage([outcome(status) for status in statuses]) == expected


@given(st.lists(st.sampled_from([0, 1, 141, -signal.SIGPIPE, -signal.SIGKILL, 999]), min_size=1, max_size=6))
def test_a_pipeline_is_ok_if_nothing_failed_but_what_is_forgiven(statuses: list[int]) -> None:
    """C-9: against a naive model."""
    whole = pipeline_outcome("p", tuple(map(outcome, statuses)), phases=(), is_output_cut=False)

    forgiven = {0, 141, -signal.SIGPIPE}
    assert whole.ok == (set(statuses[:-1]) <= forgiven and statuses[-1] == 0)
    assert (whole.failed_stage is None) == whole.ok
    assert whole.decided_by is not None
    decisive = whole.stages[whole.decided_by]
    assert (whole.exit_code, whole.signal) == (decisive.exit_code, decisive.signal)


def test_the_whole_is_made_of_its_stages() -> None:
    """C-9, C-62: times span all stages, and the words name the one that failed."""
    stages = (outcome(3, name="a", at=5), outcome(0, name="b", at=6, ended_by=pf.EndedBy.TIMEOUT))

    whole = pipeline_outcome("a | b", stages, phases=(), is_output_cut=False)

    assert (whole.started_mono_s, whole.ended_mono_s, whole.duration_s) == (5, 7, 2)
    assert whole.ended_by is pf.EndedBy.TIMEOUT
    assert whole.usage is None
    assert str(whole) == "a | b failed in stage 1 of 2: a exited with 3"
    assert whole.failed_stage == stages[0]


def test_every_pair_of_endings_has_words() -> None:
    """C-9: no ending is without a description."""
    for statuses in product([0, 1, -9, 141, 999], repeat=2):
        assert pipeline_outcome("p", tuple(map(outcome, statuses)), phases=(), is_output_cut=False).described
