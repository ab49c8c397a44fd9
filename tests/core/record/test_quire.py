"""Streams of quire, imported: every one that its own ingest fails on, too."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.codec import RecordCodec
from procflow.record.dialects.quire import QuireReader, view_of_quire
from procflow.record.envelope import Unknown
from procflow.record.fold.view import RunView
from procflow.record.reading.states import RecordState

T0 = 1_778_300_000_000


def said(kind: str, at: int, **fields: object) -> bytes:
    return json.dumps({"at_ms": T0 + at, "type": kind, **fields}).encode() + b"\n"


def job_started(at: int, job_id: str = "a") -> bytes:
    return said("job_started", at, job_id=job_id)


def job_finished(at: int, job_id: str = "a", outcome: str = "succeeded") -> bytes:
    return said("job_finished", at, job_id=job_id, outcome=outcome)


def sh_started(at: int, cmd: str = "make", job_id: str = "a") -> bytes:
    return said("sh_started", at, job_id=job_id, cmd=cmd)


def sh_finished(at: int, exit_code: int = 0, job_id: str = "a") -> bytes:
    return said("sh_finished", at, job_id=job_id, exit_code=exit_code)


def run_finished(at: int, outcome: str = "succeeded") -> bytes:
    return said("run_finished", at, outcome=outcome)


def jobs(view: RunView) -> dict[tuple[str, int], str | None]:
    return {tuple(key): row.outcome for key, row in view.jobs.items()}  # type: ignore[misc]  # a key is a pair


def calls(view: RunView) -> list[tuple[str, int, int, str | None, str | None, int | None]]:
    return [(*key, row.cmd, row.outcome, row.exit_code) for key, row in view.calls.items()]


CLEAN = [job_started(0), sh_started(1), sh_finished(5), job_finished(6), run_finished(7)]


def test_a_clean_stream() -> None:
    """RR-12: line numbers become `seq`, calls get their numbers, times become durations; there is no header."""
    events = list(QuireReader().feed(b"".join(CLEAN)))
    view = view_of_quire(CLEAN)

    assert [event.seq for event in events] == [0, 1, 2, 3, 4]  # type: ignore[union-attr]  # all of known types
    assert view.state is RecordState.FINISHED
    assert view.health.is_clean
    assert (view.run.outcome, view.run.run_id, view.run.duration_ns) == ("succeeded", None, 7_000_000)
    assert jobs(view) == {("a", 1): "succeeded"}
    assert calls(view) == [("a", 1, 1, "make", "exited", 0)]
    assert [row.duration_ns for row in view.calls.values()] == [4_000_000]


def test_the_same_stream_twice_is_the_same() -> None:
    """RR-12: two imports give one result."""
    assert view_of_quire(CLEAN) == view_of_quire([b"".join(CLEAN)])


def test_a_last_line_that_is_cut_costs_itself() -> None:
    """RR-12: everything before it is there, and at every byte of the stream nothing is raised."""
    data = b"".join(CLEAN)
    view = view_of_quire([data[:-9]])

    assert (view.state, view.health.torn_bytes) == (RecordState.CRASHED, len(CLEAN[-1]) - 9)
    assert jobs(view) == {("a", 1): "succeeded"}
    assert view.run.outcome == "lost"
    for size in range(len(data) + 1):
        assert len(view_of_quire([data[:size]]).calls) in (0, 1)


def test_a_last_line_without_a_newline_counts() -> None:
    """RR-12: a stream that is complete but for the last byte is complete."""
    view = view_of_quire([b"".join(CLEAN)[:-1]])

    assert (view.state, view.health.torn_bytes) == (RecordState.FINISHED, 0)
    assert view.run.outcome == "succeeded"


def test_zero_bytes_at_the_end() -> None:
    """RR-12: what a power loss leaves behind costs nothing but itself."""
    view = view_of_quire([b"".join(CLEAN[:-1]), b"\x00" * 512])

    assert jobs(view) == {("a", 1): "succeeded"}
    assert view.health.torn_bytes == 512


def test_a_crash_inside_a_job_keeps_its_finished_calls() -> None:
    """RR-12, RR-53: the job is there as lost, its calls with their codes, and the open one with its command."""
    view = view_of_quire([job_started(0), sh_started(1), sh_finished(2, 3), sh_started(3, "make test")])

    assert jobs(view) == {("a", 1): "lost"}
    assert calls(view) == [("a", 1, 1, "make", "exited", 3), ("a", 1, 2, "make test", "lost", None)]


def test_a_crash_in_the_second_job() -> None:
    """RR-12: both jobs are there."""
    view = view_of_quire([*CLEAN[:4], job_started(8, "b"), sh_started(9, "x", "b"), sh_finished(10, 0, "b")])

    assert jobs(view) == {("a", 1): "succeeded", ("b", 1): "lost"}
    assert len(view.calls) == 2


def test_unknown_types_and_fields() -> None:
    """RR-12, RR-09: types are kept and counted, fields skipped."""
    view = view_of_quire(
        [CLEAN[0], said("job_paused", 1), said("sh_started", 2, job_id="a", cmd="x", cwd="/"), *CLEAN[2:]]
    )

    assert view.health.unknown == 1
    assert view.health.is_clean
    assert calls(view) == [("a", 1, 1, "x", "exited", 0)]


@pytest.mark.parametrize("word", ["complete", "success", "succeeded"])
def test_every_word_for_success(word: str) -> None:
    """RR-12: the vocabulary before 22 May is read like that after it."""
    view = view_of_quire([job_started(0), job_finished(1, outcome=word), run_finished(2, word)])

    assert (jobs(view), view.run.outcome) == ({("a", 1): "succeeded"}, "succeeded")


@pytest.mark.parametrize(
    ("word", "ours"),
    [("pipeline_failure", "failed"), ("pipeline-failure", "failed"), ("failed", "failed"), ("odd", "odd")],
)
def test_every_word_for_failure(word: str, ours: str) -> None:
    """RR-12: the two spellings of one word are one; a word that nobody knows stays."""
    assert view_of_quire([run_finished(0, word)]).run.outcome == ours


def test_the_types_of_the_first_days() -> None:
    """RR-12: `job_completed` and `job_failed`, and lines without a time."""
    view = view_of_quire(
        [b'{"type":"job_started","job_id":"a"}\n', b'{"type":"job_completed","job_id":"a"}\n',
         b'{"type":"job_started","job_id":"b"}\n', b'{"type":"job_failed","job_id":"b"}\n']
    )  # fmt: skip

    assert jobs(view) == {("a", 1): "succeeded", ("b", 1): "failed"}
    assert all(row.duration_ns == 0 for row in view.jobs.values())


def test_two_calls_that_start_in_one_millisecond() -> None:
    """RR-12, RR-51: both are there."""
    view = view_of_quire([job_started(0), sh_started(1, "x"), sh_finished(1, 1), sh_started(1, "y"), sh_finished(1, 2)])

    assert calls(view) == [("a", 1, 1, "x", "exited", 1), ("a", 1, 2, "y", "exited", 2)]


@pytest.mark.parametrize(
    "times", [(0, 1, 2, -50, 3), (0, 100, 50, 120, 130), (0, 10, 20, -30, -20), (0, -(10**9), 5, 6, 7), (0, 5, 4, 3, 2)]
)
def test_a_clock_that_steps_back(times: tuple[int, ...]) -> None:
    """RR-12, RR-23: inside a job, inside a call, between two calls, to before the run: rows are there, no duration is negative."""
    one, two, three, four, five = times
    view = view_of_quire([job_started(one), sh_started(two), sh_finished(three, 4), sh_started(four, "y"), sh_finished(five),
                          job_finished(five), run_finished(five)])  # fmt: skip

    assert calls(view) == [("a", 1, 1, "make", "exited", 4), ("a", 1, 2, "y", "exited", 0)]
    assert jobs(view) == {("a", 1): "succeeded"}
    assert all(
        row.duration_ns is not None and row.duration_ns >= 0 for row in (*view.jobs.values(), *view.calls.values())
    )
    assert view.health.clock_step_ms < 0


def test_overlapping_calls_pair_in_the_order_they_were_started() -> None:
    """RR-12: first in, first out, for each job."""
    view = view_of_quire([job_started(0), sh_started(1, "x"), sh_started(2, "y"), sh_started(2, "z", "b"), sh_finished(3, 1),
                          sh_finished(4, 9, "b"), sh_finished(5, 2)])  # fmt: skip

    assert calls(view) == [("a", 1, 1, "x", "exited", 1), ("a", 1, 2, "y", "exited", 2), ("b", 1, 1, "z", "exited", 9)]


def test_a_job_id_that_is_used_twice_is_two_attempts() -> None:
    """RR-12: both are there, each with its calls."""
    view = view_of_quire(
        [*CLEAN[:4], job_started(8), sh_started(9, "y"), sh_finished(10, 1), job_finished(11, outcome="failed")]
    )

    assert jobs(view) == {("a", 1): "succeeded", ("a", 2): "failed"}
    assert calls(view) == [("a", 1, 1, "make", "exited", 0), ("a", 2, 1, "y", "exited", 1)]


def test_a_command_that_could_not_be_started_is_shown() -> None:
    """RR-12, RR-53: it has no finish, so it is lost, and it is named."""
    view = view_of_quire(
        [job_started(0), sh_started(1, "nope"), job_finished(2, outcome="failed"), run_finished(3, "failed")]
    )

    assert calls(view) == [("a", 1, 1, "nope", "lost", None)]
    assert view.run.outcome == "failed"


def test_a_finish_without_a_start() -> None:
    """RR-12: it is a call of its own, of which the command is not known."""
    view = view_of_quire([sh_finished(1, 7), job_finished(2)])

    assert calls(view) == [("a", 1, 1, None, "exited", 7)]
    assert jobs(view) == {("a", 1): "succeeded"}


def test_a_signal_is_minus_one() -> None:
    """RR-12, RR-08: -1 is some signal, 255 an exit code."""
    view = view_of_quire([sh_started(0), sh_finished(1, -1), sh_started(2), sh_finished(3, 255)])

    assert [(row.outcome, row.exit_code, row.signal) for row in view.calls.values()] == [
        ("signaled", None, None),
        ("exited", 255, None),
    ]


def test_of_two_endings_the_first_holds() -> None:
    """RR-12, RR-88: as in any record."""
    assert view_of_quire([run_finished(0, "failed"), run_finished(1)]).run.outcome == "failed"


def test_no_stream_at_all() -> None:
    """RR-12: an empty stream has no rows."""
    view = view_of_quire([])

    assert (view.jobs, view.calls, view.run.outcome) == ({}, {}, None)


def test_a_damaged_line_costs_itself() -> None:
    """RR-12, RR-40: the line that quire prints after its events, or any other, is counted with its place."""
    view = view_of_quire([CLEAN[0], b"==> sh-1.log <==\n", b"\n", *CLEAN[1:]])

    assert view.health.corrupt == 1
    assert view.health.corrupt_offsets == (len(CLEAN[0]),)
    assert view.run.outcome == "succeeded"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.binary(max_size=30)
        | st.sampled_from(CLEAN)
        | st.builds(
            said,
            st.sampled_from(["job_started", "job_finished", "sh_started", "sh_finished", "run_finished", "other"]),
            st.integers(min_value=-(2**64), max_value=2**64),
            job_id=st.sampled_from(["a", "b"]),
            cmd=st.just("x"),
            outcome=st.sampled_from(["complete", "odd"]),
            exit_code=st.integers(),
        ),
        max_size=12,
    )
)
def test_no_stream_raises(blocks: list[bytes]) -> None:
    """RR-12: whatever stands on the lines, and the events of it could be written as a record."""
    view_of_quire(blocks)
    codec = RecordCodec()
    for event in QuireReader().feed(b"".join(blocks)):
        if not isinstance(event, Unknown):
            assert codec.decode(codec.encode(event)) == event
