"""A run as spans of a trace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record import (
    CallKey,
    ErrorInfo,
    JobFinished,
    JobKey,
    JobStarted,
    RecordState,
    RedactionInfo,
    RunEvent,
    RunFinished,
    RunView,
    ShFinished,
    ShSpawned,
    ShStarted,
    Totals,
)
from procflow.record.exports import LiveSpans, TraceSpan, TraceSpanKind, UnexportableError, span_id, trace_spans
from procflow.record.fold.view import view_of
from tests.core.record.exports.runs import TRACE, damaged_runs, recorded_runs
from tests.core.record.sample import EVENTS, finished, header, job_finished, stamp_all, started
from tests.core.record.strategies import any_event

RUN = "019b76da-a800-7000-8000-000000000001"
RUN_NS = 1_767_225_600_000 * 10**6
HIDDEN = RedactionInfo(enabled=True, rules=())


def whole(*events: RunEvent, state: RecordState = RecordState.FINISHED) -> RunView:
    return view_of(stamp_all(events), state=state)


def spans_by_id(view: RunView) -> dict[int, TraceSpan]:
    spans = trace_spans(view)
    found = {span.span_id: span for span in spans}
    assert len(found) == len(spans)
    return found


def call_span(ended: ShFinished, *, begun: ShStarted | None = None, redaction: RedactionInfo = HIDDEN) -> TraceSpan:
    """Return the span of the one call of a run."""
    view = whole(
        header(redaction=redaction),
        JobStarted(job_id="build", attempt=1),
        begun or started("build", 1, "make", "-j4"),
        ShSpawned(job_id="build", attempt=1, sh=1, pid=101),
        ended,
    )
    return spans_by_id(view)[span_id(RUN, CallKey("build", 1, 1))]


def ended(outcome: str, **more: object) -> ShFinished:
    return ShFinished(
        job_id="build", attempt=1, sh=1, outcome=outcome, duration_ns=5, stdout_bytes=0, stderr_bytes=0, **more  # type: ignore[arg-type]
    )  # fmt: skip


def job_span(ending: JobFinished) -> TraceSpan:
    return spans_by_id(whole(header(), JobStarted(job_id="build", attempt=1), ending))[span_id(RUN, JobKey("build", 1))]


class TestMapping:
    def test_spans_stand_under_each_other_as_calls_jobs_and_run_do(self) -> None:
        """RR-96: run and job are INTERNAL, a call is CLIENT and called after its program; all are of one trace."""
        spans = spans_by_id(view_of(EVENTS, state=RecordState.FINISHED))

        run, job, call = (spans[span_id(RUN, key)] for key in (None, JobKey("build", 2), CallKey("build", 2, 1)))
        assert [span.name for span in (run, job, call)] == ["nightly", "build", "make"]
        assert [span.kind for span in (run, job, call)] == [
            TraceSpanKind.INTERNAL, TraceSpanKind.INTERNAL, TraceSpanKind.CLIENT,
        ]  # fmt: skip
        assert [span.parent_id for span in (run, job, call)] == [None, run.span_id, job.span_id]
        assert {span.trace_id for span in spans.values()} == {int(RUN.replace("-", ""), 16)}

    def test_a_run_inside_a_span_belongs_to_it(self) -> None:
        """RR-95: the recorded parent is the parent of the run, and its trace that of every span."""
        spans = spans_by_id(whole(header(trace=TRACE), JobStarted(job_id="build", attempt=1)))

        run = spans[span_id(RUN)]
        assert run.parent_id == int(TRACE.parent_span_id, 16)
        assert run.has_remote_parent
        assert {f"{span.trace_id:032x}" for span in spans.values()} == {TRACE.trace_id}

    def test_a_call_says_what_ran(self) -> None:
        """RR-96: a call has the name and path of its program, its pid, exit code, directory and arguments."""
        span = call_span(ended("exited", exit_code=0), begun=started("build", 1, "/usr/bin/make", "-j4"))

        assert span.attributes == {
            "process.executable.name": "make",
            "process.executable.path": "/usr/bin/make",
            "process.pid": 101,
            "process.exit.code": 0,
            "process.working_directory": "/src",
            "process.command_args": ("/usr/bin/make", "-j4"),
            "procflow.job.attempt": 1,
            "procflow.job.sh": 1,
            "procflow.record.outcome": "exited",
        }
        assert not span.is_error

    @pytest.mark.parametrize(
        ("program", "name", "path"),
        [
            ("make", "make", None),
            ("./t.sh", "t.sh", "/src/t.sh"),
            ("bin/t", "t", "/src/bin/t"),
            ("/a/b/", "b", "/a/b/"),
        ],
    )
    def test_only_a_path_is_told_as_one(self, program: str, name: str, path: str | None) -> None:
        """RR-96: where a bare name was found is not recorded, so it has no path."""
        span = call_span(ended("exited", exit_code=0), begun=started("build", 1, program))

        assert (span.name, span.attributes["process.executable.name"]) == (name, name)
        assert span.attributes.get("process.executable.path") == path

    def test_a_call_without_recorded_arguments_is_a_call(self) -> None:
        """RR-96: a record that leaves out the whole command has no program to name."""
        span = call_span(ended("exited", exit_code=0), begun=started("build", 1))

        assert span.name == "call"
        assert not {"process.executable.name", "process.command_args"} & set(span.attributes)

    @pytest.mark.parametrize(
        "redaction",
        [
            RedactionInfo(enabled=False, rules=()),
            RedactionInfo(enabled=True, rules=(), argv="program"),
            RedactionInfo(enabled=True, rules=(), argv="none"),
        ],
    )
    def test_arguments_that_were_not_redacted_stay_here(self, redaction: RedactionInfo) -> None:
        """RR-96: arguments leave the record only if the record says that they were redacted."""
        span = call_span(ended("exited", exit_code=0), redaction=redaction)

        assert "process.command_args" not in span.attributes

    @pytest.mark.parametrize(
        ("ending", "error_type"),
        [
            (ended("exited", exit_code=0), None),
            (ended("exited", exit_code=3), "3"),
            (ended("exited"), "_OTHER"),
            (ended("signaled", signal="SIGKILL"), "SIGKILL"),
            (ended("signaled"), "signaled"),
            (ended("timed_out", signal="SIGTERM"), "timeout"),
            (ended("timed_out", exit_code=0), "timeout"),
            (ended("cancelled", signal="SIGTERM"), "cancelled"),
            (ended("spawn_failed", error=ErrorInfo(type="FileNotFoundError", message="no make")), "FileNotFoundError"),
            (ended("spawn_failed"), "spawn_failed"),
            (ended("vanished"), "vanished"),
        ],
    )
    def test_a_call_that_did_not_succeed_is_an_error(self, ending: ShFinished, error_type: str | None) -> None:
        """RR-96: ``error.type`` is the code, the signal, ``timeout``, ``cancelled`` or the class, and the status ERROR then."""
        span = call_span(ending)

        assert span.attributes.get("error.type") == error_type
        assert span.is_error == (error_type is not None)
        assert span.status_text == (ending.error.message if ending.error else "")

    def test_an_exit_code_is_told_if_there_is_one(self) -> None:
        """RR-96: a process that was killed has no exit code, one that exited after its time has."""
        assert "process.exit.code" not in call_span(ended("signaled", signal="SIGKILL")).attributes
        assert call_span(ended("timed_out", exit_code=7)).attributes["process.exit.code"] == 7

    @pytest.mark.parametrize(
        ("outcome", "error", "result", "error_type"),
        [
            ("succeeded", None, "success", None),
            ("failed", None, "failure", "failed"),
            ("failed", "procflow.errors.ExitError", "failure", "procflow.errors.ExitError"),
            ("errored", "KeyError", "error", "KeyError"),
            ("errored", "TimedOut", "timeout", "timeout"),
            ("failed", "builtins.TimeoutError", "timeout", "timeout"),
            ("cancelled", "Cancelled", "cancellation", "cancelled"),
            ("vanished", None, "vanished", "vanished"),
        ],
    )
    def test_a_job_has_the_result_of_a_task(
        self, outcome: str, error: str | None, result: str, error_type: str | None
    ) -> None:
        """RR-96: the outcome of an attempt in the words of the conventions; a word of tomorrow stays, as an error."""
        info = ErrorInfo(type=error, message="it was this") if error else None

        span = job_span(JobFinished(job_id="build", attempt=1, outcome=outcome, duration_ns=5, error=info))

        assert span.attributes == {
            "cicd.pipeline.run.id": RUN,
            "cicd.pipeline.task.name": "build",
            "cicd.pipeline.task.run.id": "e570de18-b661-5c89-808b-41ba2d4abc5f",
            "cicd.pipeline.task.run.result": result,
            "procflow.job.attempt": 1,
            "procflow.record.outcome": outcome,
        } | ({"error.type": error_type} if error_type else {})
        assert span.is_error == (error_type is not None)
        assert span.status_text == (info.message if info else "")

    def test_a_skipped_job_is_a_moment(self) -> None:
        """RR-96: a job that was skipped has the result ``skip``, no length and no error."""
        span = spans_by_id(view_of(EVENTS, state=RecordState.FINISHED))[span_id(RUN, JobKey("test", 1))]

        assert span.attributes["cicd.pipeline.task.run.result"] == "skip"
        assert span.start_ns == span.end_ns
        assert not span.is_error

    @pytest.mark.parametrize(
        ("outcome", "result", "error_type"),
        [
            ("succeeded", "success", None),
            ("failed", "failure", "failed"),
            ("errored", "error", "errored"),
            ("cancelled", "cancellation", "cancelled"),
        ],
    )
    def test_a_run_has_the_result_of_a_pipeline(self, outcome: str, result: str, error_type: str | None) -> None:
        """RR-96: the run names itself, its id and its result."""
        totals = Totals(jobs=0, sh=0, dropped=0, redacted=0)

        (span,) = trace_spans(whole(header(), RunFinished(outcome=outcome, duration_ns=7, totals=totals)))

        assert span.attributes == {
            "cicd.pipeline.run.id": RUN,
            "cicd.pipeline.name": "nightly",
            "cicd.pipeline.result": result,
            "procflow.record.outcome": outcome,
        } | ({"error.type": error_type} if error_type else {})
        assert (span.start_ns, span.end_ns) == (RUN_NS, RUN_NS + 7)

    def test_a_record_without_its_first_event_has_no_trace(self) -> None:
        """RR-95: without the id of the run nothing can be named, and that is said."""
        with pytest.raises(UnexportableError, match="names its run"):
            trace_spans(view_of(EVENTS[5:], state=RecordState.FINISHED))


class TestTimes:
    @settings(max_examples=100, deadline=None)
    @given(recorded_runs())
    def test_nothing_begins_before_what_it_belongs_to(self, events: list[RunEvent]) -> None:
        """RR-96: times keep their order though the wall clock steps, and durations are those of the monotonic clock."""
        spans = spans_by_id(view_of(events, state=RecordState.FINISHED))

        for span in spans.values():
            parent = spans.get(span.parent_id or 0)
            assert span.start_ns <= span.end_ns
            if parent is not None:
                assert parent.start_ns <= span.start_ns
        assert spans[span_id(RUN)].start_ns == events[0].at_ms * 10**6

    def test_a_call_begins_where_the_monotonic_clock_says(self) -> None:
        """RR-96: after the wall clock stepped back by an hour a call still lies where it was."""
        spans = spans_by_id(view_of(EVENTS, state=RecordState.FINISHED))
        row = view_of(EVENTS).calls[CallKey("build", 2, 1)]

        assert row.started_at_ms is not None
        assert row.started_at_ms * 10**6 < RUN_NS
        assert spans[span_id(RUN, row.key)].start_ns == RUN_NS + (row.start_mono_ns or 0)

    def test_a_job_whose_beginning_is_missing_begins_with_its_first_call(self) -> None:
        """RR-96: of a damaged record, what is missing is taken from what is inside."""
        events = [event for event in EVENTS if not isinstance(event, JobStarted)]

        spans = spans_by_id(view_of(events, state=RecordState.FINISHED))

        assert spans[span_id(RUN, JobKey("build", 1))].start_ns == spans[span_id(RUN, CallKey("build", 1, 1))].start_ns

    def test_a_call_whose_beginning_is_missing_began_before_it_ended(self) -> None:
        """RR-96: then the wall clock of its end, less its duration, is what there is, but not before its job."""
        events = [event for event in EVENTS if not isinstance(event, ShStarted)]
        view = view_of(events, state=RecordState.FINISHED)

        spans = spans_by_id(view)

        row = view.calls[CallKey("build", 1, 2)]
        assert spans[span_id(RUN, row.key)].start_ns == (row.finished_at_ms or 0) * 10**6 - 5_000_000
        late = spans[span_id(RUN, CallKey("build", 2, 1))]  # the wall clock says an hour before the run
        assert late.start_ns == spans[span_id(RUN, JobKey("build", 2))].start_ns


class TestCrash:
    CRASHED = view_of(EVENTS[:16], state=RecordState.CRASHED)

    def test_what_was_lost_ends_at_the_last_event(self) -> None:
        """RR-98: an open call, its job and the run end there with the status ERROR and ``error.type`` ``lost``."""
        spans = spans_by_id(self.CRASHED)
        last_ns = RUN_NS + EVENTS[15].mono_ns

        for key in (None, JobKey("build", 1), CallKey("build", 1, 1)):
            span = spans[span_id(RUN, key)]
            assert span.is_error
            assert span.attributes["error.type"] == "lost"
            assert span.end_ns == last_ns
        assert spans[span_id(RUN)].attributes["cicd.pipeline.result"] == "error"

    def test_what_had_ended_is_as_it_was(self) -> None:
        """RR-98: a call that was over before the crash is the same as in the whole record."""
        key = span_id(RUN, CallKey("build", 1, 2))

        assert spans_by_id(self.CRASHED)[key] == spans_by_id(view_of(EVENTS, state=RecordState.FINISHED))[key]

    def test_a_running_record_has_only_what_has_ended(self) -> None:
        """RR-98: nothing is lost while the writer lives; what is open has no span yet."""
        spans = trace_spans(view_of(EVENTS[:16], state=RecordState.RUNNING))

        assert {span.span_id for span in spans} == {
            span_id(RUN, key) for key in (CallKey("build", 1, 2), CallKey("lint", 1, 1))
        }

    def test_exporting_it_again_when_it_is_whole_gives_the_same_ids(self) -> None:
        """RR-95: spans that were told as lost are told again under their ids, not beside them."""
        assert set(spans_by_id(self.CRASHED)) <= set(spans_by_id(view_of(EVENTS, state=RecordState.FINISHED)))


def live(events: list[RunEvent], state: RecordState) -> list[TraceSpan]:
    spans = LiveSpans()
    found = [span for event in events for span in spans.add(event)]
    return found + spans.finish(state)


def in_order(spans: list[TraceSpan]) -> list[TraceSpan]:
    return sorted(spans, key=lambda span: span.span_id)


class TestLive:
    @settings(max_examples=200, deadline=None)
    @given(recorded_runs())
    def test_live_spans_are_those_of_the_finished_record(self, events: list[RunEvent]) -> None:
        """RR-94: what is given one by one while a run runs is what its record gives when it is finished."""
        assert in_order(live(events, RecordState.FINISHED)) == in_order(
            trace_spans(view_of(events, state=RecordState.FINISHED))
        )

    @settings(max_examples=200, deadline=None)
    @given(damaged_runs())
    def test_live_spans_are_those_of_a_record_with_holes(self, events: list[RunEvent]) -> None:
        """RR-94: also of a record of which events are missing, or the end, each span comes once and is the same."""
        is_finished = isinstance(events[-1], RunFinished)
        state = RecordState.FINISHED if is_finished else RecordState.CRASHED

        assert in_order(live(events, state)) == in_order(trace_spans(view_of(events, state=state)))

    def test_a_span_comes_with_the_event_that_ends_it(self) -> None:
        """RR-94: a call that has finished is given at once, not at the end of its job."""
        spans = LiveSpans()
        given = [(event.seq, [span.name for span in spans.add(event)]) for event in EVENTS]

        assert [(seq, names) for seq, names in given if names] == [
            (14, ["make"]), (15, ["ruff"]), (17, ["lint"]), (18, ["make"]), (19, ["build"]), (24, ["make"]), (25, ["build"]),
            (26, ["test"]), (27, ["deploy"]), (28, ["nightly"]),
        ]  # fmt: skip

    def test_calls_are_forgotten_when_they_have_ended(self) -> None:
        """RR-94: a run of many calls needs memory for those that are open."""
        spans = LiveSpans()
        for event in stamp_all([header(), JobStarted(job_id="main", attempt=1)]):
            spans.add(event)
        for sh in range(1, 200):
            for event in stamp_all([started("main", sh, "true"), finished("main", sh)]):
                spans.add(event)

        assert repr(spans) == "<LiveSpans, 0 calls are open>"

    def test_nothing_is_lost_while_it_runs(self) -> None:
        """RR-94: a tail that ends before the run says nothing of what is open."""
        spans = LiveSpans()
        for event in EVENTS[:16]:
            spans.add(event)

        assert spans.finish(RecordState.RUNNING) == []

    def test_nothing_comes_after_the_end(self) -> None:
        """RR-94: each span is given once."""
        spans = LiveSpans()
        for event in EVENTS:
            spans.add(event)

        assert spans.add(job_finished("late")) == []
        assert spans.finish(RecordState.CRASHED) == []


class TestTotal:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(any_event, max_size=10))
    def test_any_events_give_spans(self, events: list[RunEvent]) -> None:
        """RR-96: whatever a record of another program holds, its numbers stay within what the protocol carries."""
        view = view_of([header(), *events], state=RecordState.CRASHED)

        for span in trace_spans(view):
            assert 0 <= span.start_ns <= span.end_ns < 2**63
            assert span.name
