"""Ids of what is exported."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import CallKey, JobKey, Trace
from procflow.record.exports import job_uuid, parse_traceparent, span_id, trace_id, traceparent
from procflow.record.exports.ids import parent_span_id, run_uuid

RUN = "019b76da-a800-7000-8000-000000000001"
PARENT = Trace(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", parent_span_id="00f067aa0ba902b7")
GOLDEN = {
    "run": "f01bfe3294e0aadb",
    "job": "62065dc140086634",
    "call": "a50cc2f055964978",
    "job uuid": "e570de18-b661-5c89-808b-41ba2d4abc5f",
    "named run": "362e70c6-5b28-5886-899b-846a7a4d1e66",
}

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
numbers = st.integers(0, 30)
keys = (
    st.tuples(words)
    | st.builds(lambda run, job, attempt: (run, JobKey(job, attempt)), words, words, numbers)
    | st.builds(lambda run, job, attempt, sh: (run, CallKey(job, attempt, sh)), words, words, numbers, numbers)
)


def test_the_trace_is_the_run() -> None:
    """RR-95: the id of the trace is the 128 bits of the run's id."""
    assert f"{trace_id(RUN):032x}" == RUN.replace("-", "")


def test_a_recorded_parent_gives_the_trace() -> None:
    """RR-95: a run that was started inside a span belongs to the trace of that span."""
    assert f"{trace_id(RUN, PARENT):032x}" == PARENT.trace_id
    assert parent_span_id(PARENT) == 0x00F067AA0BA902B7


@pytest.mark.parametrize("bad", ["", "0" * 32, "4BF92F3577B34DA6A3CE929D0E0E4736", "4bf9"])
def test_a_recorded_parent_that_is_none_is_ignored(bad: str) -> None:
    """RR-95: what another program recorded as a trace may be anything; then the run is the trace."""
    trace = Trace(trace_id=bad, parent_span_id=PARENT.parent_span_id)

    assert trace_id(RUN, trace) == UUID(RUN).int
    assert parent_span_id(trace) is None


@pytest.mark.parametrize("run_id", ["", "nightly-7", str(UUID(int=0))])
def test_an_id_that_is_no_uuid_gives_one(run_id: str) -> None:
    """RR-95: also a run of another program has the id of a trace, the same each time, and never zero."""
    assert 0 < trace_id(run_id) < 2**128
    assert trace_id(run_id) == trace_id(run_id)


@given(keys, keys)
def test_spans_of_different_names_have_different_ids(one: tuple[str], other: tuple[str]) -> None:
    """RR-95: the id of a span is 64 bits, never zero, and a matter of run, job, attempt and number alone."""
    first, second = span_id(*one), span_id(*other)

    assert 0 < first < 2**64
    assert (first == second) == (one == other)


def test_ids_never_change() -> None:
    """RR-95: what one release has exported another one finds again."""
    assert f"{span_id(RUN):016x}" == GOLDEN["run"]
    assert f"{span_id(RUN, JobKey('build', 1)):016x}" == GOLDEN["job"]
    assert f"{span_id(RUN, CallKey('build', 1, 2)):016x}" == GOLDEN["call"]
    assert str(job_uuid(RUN, JobKey("build", 1))) == GOLDEN["job uuid"]
    assert str(run_uuid("nightly-7")) == GOLDEN["named run"]


@pytest.mark.parametrize("key", [None, JobKey("build", 1), CallKey("build", 1, 2)])
@pytest.mark.parametrize("trace", [None, PARENT])
def test_a_child_is_told_the_span_that_is_exported(key: JobKey | CallKey | None, trace: Trace | None) -> None:
    """RR-97: the value for ``TRACEPARENT`` names the trace and the span of the call, and says that it is sampled."""
    text = traceparent(RUN, key, trace=trace)

    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", text)
    assert parse_traceparent(text) == Trace(
        trace_id=f"{trace_id(RUN, trace):032x}", parent_span_id=f"{span_id(RUN, key):016x}"
    )


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\n", True),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", False),
        ("", False),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(text: str, is_one: bool) -> None:
    """RR-97: what this program was handed is a parent only if it is well formed (W3C Trace Context, 3.2)."""
    assert parse_traceparent(text) == (PARENT if is_one else None)
