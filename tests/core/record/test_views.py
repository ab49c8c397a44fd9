"""What people and other tools see of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.envelope import stamped
from procflow.record.events import JobDeclared, JobStarted, RunEvent
from procflow.record.fold.view import RunView, view_of
from procflow.record.reading.reader import Health
from procflow.record.reading.sequence import SeqGap
from procflow.record.reading.states import RecordState
from procflow.record.views import summary as summaries
from procflow.record.views.gantt import MIN_WIDTH, gantt
from procflow.record.views.spans import SpanKind, pack, timeline
from procflow.record.views.summary import check_status, critical_path, health_line, summary
from procflow.record.views.trace import chrome_trace
from procflow.record.views.words import columns_of, duration_text, fitted
from tests.core.record.sample import EVENTS, finished, header, job_finished, stamp_all, started
from tests.core.record.test_fold import meeting_events

GOLDEN = Path(__file__).parent / "golden" / "views"
WHOLE = view_of(EVENTS, state=RecordState.FINISHED)
CRASHED = view_of(EVENTS[:16], state=RecordState.CRASHED)
RUNNING = view_of(EVENTS[:16], state=RecordState.RUNNING)
VIEWS = {"whole": WHOLE, "crashed": CRASHED, "running": RUNNING}

any_view = st.builds(
    lambda events, state: view_of(events, state=state),
    st.lists(meeting_events, max_size=10),
    st.sampled_from([RecordState.RUNNING, RecordState.CRASHED, RecordState.FINISHED]),
)


class TestSpans:
    def test_spans_of_a_whole_run(self) -> None:
        """RR-89: the run, the attempts and the calls, with start, duration and outcome; what was skipped has none."""
        spans = timeline(WHOLE)

        assert [(span.kind.value, span.label) for span in spans] == [
            ("run", "nightly"), ("job", "build"), ("job", "lint"), ("job", "build #2"), ("call", "make -j4"),
            ("call", "make docs"), ("call", "ruff check"), ("call", "make -j1"),
        ]  # fmt: skip
        assert (spans[0].start_ns, spans[0].duration_ns, spans[0].outcome) == (0, 30_000_000, "cancelled")
        assert not any(span.is_open for span in spans)

    def test_open_and_lost_spans_end_at_the_last_event(self) -> None:
        """RR-89: both are open; only a crash makes them lost."""
        for view, is_lost in ((RUNNING, False), (CRASHED, True)):
            span = next(span for span in timeline(view) if span.label == "make -j4")
            assert (span.is_open, span.is_lost) == (True, is_lost)
            assert span.end_ns == EVENTS[15].mono_ns

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=15))
    def test_lanes_are_as_few_as_can_be(self, found: list[tuple[int, int]]) -> None:
        """RR-89: no two spans overlap in one lane, and the lanes are as many as the most spans at one moment."""
        intervals = sorted((start, start + length) for start, length in found)
        lanes = pack(intervals)

        covered = [set(range(start, max(end, start + 1))) for start, end in intervals]
        for one in range(len(intervals)):
            for other in range(one):
                assert lanes[one] != lanes[other] or not covered[one] & covered[other]
        busiest = max((sum(moment in cover for cover in covered) for moment in range(30)), default=0)
        assert len(set(lanes)) == busiest
        assert set(lanes) == set(range(busiest))

    @settings(max_examples=40, deadline=None)
    @given(any_view)
    def test_any_view_has_a_timeline(self, view: RunView) -> None:
        """RR-89: for whatever the fold gives, spans have a place and a lane of their own."""
        spans = timeline(view)

        assert len([span for span in spans if span.kind is SpanKind.CALL]) == len(view.calls)
        assert all(span.duration_ns >= 0 for span in spans)
        places = [(span.kind, span.lane, span.start_ns) for span in spans]
        assert len(set(places)) == len(places)


class TestGantt:
    @pytest.mark.parametrize("name", VIEWS)
    @pytest.mark.parametrize("width", [40, 80])
    def test_the_chart_is_stable(self, name: str, width: int) -> None:
        """RR-90: the output is golden, plain ASCII, and shows lost, open, failed and finished spans distinctly."""
        chart = gantt(VIEWS[name], width=width)

        assert chart == (GOLDEN / f"{name}-{width}.txt").read_text("utf-8")
        assert "\x1b" not in chart
        assert ("~?" in chart, "->" in chart) == (name == "crashed", name == "running")

    @settings(max_examples=50, deadline=None)
    @given(view=any_view, width=st.integers(min_value=MIN_WIDTH, max_value=150))
    def test_every_width_and_every_view_fits(self, view: RunView, width: int) -> None:
        """RR-90: no line is wider than asked for; nothing in a name moves the cursor."""
        lines = gantt(view, width=width).splitlines()

        assert len(lines) == 1 + len(view.jobs) + len(view.calls)
        for line in lines:
            assert all(char.isprintable() for char in line)
            assert columns_of(line) <= width

    def test_a_width_that_is_too_small_is_refused(self) -> None:
        """RR-90: 40 columns are the least."""
        with pytest.raises(ValueError, match="40"):
            gantt(WHOLE, width=39)

    def test_a_moment_in_a_long_run_is_seen(self) -> None:
        """RR-90: a call of a nanosecond in a run of a year has a mark."""
        begin = started("a", 1, "x")
        events: list[RunEvent] = [
            stamped(header(), seq=0, at_ms=0, mono_ns=0),
            stamped(begin, seq=1, at_ms=0, mono_ns=365 * 86_400 * 10**9),
            stamped(finished("a", 1), seq=2, at_ms=0, mono_ns=365 * 86_400 * 10**9),
        ]

        line = gantt(view_of(events), width=60).splitlines()[-1]

        assert "=|" in line

    @given(text=st.text(), columns=st.integers(min_value=1, max_value=20))
    def test_texts_are_fitted(self, text: str, columns: int) -> None:
        """RR-90: letters that take two columns, or none, are counted as such."""
        assert all(char.isprintable() for char in fitted(text, columns))
        assert fitted("日本語", 4) == "日… "
        assert fitted("日本語", 6) == "日本語"
        assert fitted("a\u0301", 3) == "a\u0301  "
        assert fitted("a\x1b[31m", 9) == "a·[31m   "

    @pytest.mark.parametrize(
        ("duration_ns", "text"),
        [(0, "0ns"), (999, "999ns"), (999_499, "999us"), (999_500, "1.0ms"), (3_540_000, "3.5ms"), (99_949_999, "99.9ms"), (999_400_000, "999ms"), (999_600_000, "1.0s"),
         (99_960_000_000, "1m40s"), (3_599_600_000_000, "1h00m"), (86_400 * 10**9, "1d00h"), (999 * 86_400 * 10**9, "999d00h"), (2**63 - 1, ">999d")],
    )  # fmt: skip
    def test_durations_are_short(self, duration_ns: int, text: str) -> None:
        """RR-90: they fit their column."""
        assert duration_text(duration_ns) == text
        assert len(text) <= 7


class TestTrace:
    @settings(max_examples=40, deadline=None)
    @given(any_view)
    def test_every_beginning_has_its_end(self, view: RunView) -> None:
        """RR-91: in each thread of each process beginnings and ends alternate, and time does not go back."""
        trace = json.loads(chrome_trace(view))
        threads: dict[tuple[int, int], list[dict[str, object]]] = {}
        for event in trace["traceEvents"]:
            if event["ph"] != "M":
                threads.setdefault((event["pid"], event["tid"]), []).append(event)

        for events in threads.values():
            assert [event["ph"] for event in events] == ["B", "E"] * (len(events) // 2)
            moments = [event["ts"] for event in events]
            assert all(one <= other for one, other in zip(moments, moments[1:], strict=False))  # type: ignore[operator]
        assert sum(map(len, threads.values())) == 2 * len(timeline(view))

    def test_jobs_are_processes_and_lanes_threads(self) -> None:
        """RR-91: microseconds of the monotonic clock; what was open is marked."""
        events = json.loads(chrome_trace(CRASHED))["traceEvents"]
        names = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
        begun = {event["name"]: event for event in events if event["ph"] == "B"}

        assert names == {0: "run nightly", 1: "build", 2: "lint"}
        assert begun["make -j4"]["ts"] == EVENTS[7].mono_ns / 1000
        assert (begun["make -j4"]["pid"], begun["make docs"]["pid"], begun["ruff check"]["pid"]) == (1, 1, 2)
        assert begun["make -j4"]["tid"] != begun["make docs"]["tid"]
        assert begun["make -j4"]["args"]["open"] is True
        assert begun["make docs"]["args"] == {
            "outcome": "exited",
            "attempt": 1,
            "sh": 2,
            "pid": 102,
            "exit_code": 2,
            "cwd": "/src",
        }


def run_of(jobs: dict[str, tuple[int, tuple[str, ...]]]) -> RunView:
    events: list[RunEvent] = [JobDeclared(job_id=job_id, after=after) for job_id, (_, after) in jobs.items()]
    for job_id, (duration_ns, _) in jobs.items():
        events.append(JobStarted(job_id=job_id, attempt=1))
        done = job_finished(job_id)
        events.append(type(done)(job_id=job_id, attempt=1, outcome="succeeded", duration_ns=duration_ns))
    return view_of(stamp_all(events), state=RecordState.FINISHED)


class TestSummary:
    def test_the_figures_of_the_sample(self) -> None:
        """RR-93: counts by outcome, the slowest calls, the longest path through the jobs, the health."""
        found = summary(WHOLE, slowest=2)

        assert dict(found.jobs) == {"failed": 1, "cancelled": 1, "succeeded": 1, "skipped": 2}
        assert dict(found.calls) == {"exited": 3, "cancelled": 1}
        assert [call.cmd for call in found.slowest] == ["make -j4", "make docs"]
        assert found.critical_path[0] == "build"
        assert found.critical_ns == 18_000_000
        assert (found.outcome, found.duration_ns, found.health) == ("cancelled", 30_000_000, "clean")

    def test_the_longest_path(self) -> None:
        """RR-93: over the edges of `after`; a long job alone may be shorter than a chain of short ones."""
        view = run_of({"a": (3, ()), "b": (4, ("a",)), "c": (1, ("a",)), "d": (2, ("b", "c")), "alone": (8, ())})

        assert critical_path(view) == (("a", "b", "d"), 9)

    def test_a_circle_has_a_path_too(self) -> None:
        """RR-93: the edge that closes a circle is left out, and so is one to a job that does not exist."""
        view = run_of({"a": (1, ("c", "a", "x")), "b": (2, ("a",)), "c": (4, ("b",)), "d": (8, ("c",))})

        assert critical_path(view) == (("a", "b", "c", "d"), 15)

    @settings(max_examples=40, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from("abcdef"), st.tuples(st.integers(0, 9), st.lists(st.sampled_from("abcdefx"), max_size=3).map(tuple)),
            max_size=6,
        )
    )  # fmt: skip
    def test_paths_against_all_paths(self, jobs: dict[str, tuple[int, tuple[str, ...]]]) -> None:
        """RR-93: for any graph without a circle it is the longest of all paths; for any other a path without repetition."""
        path, total = critical_path(run_of(jobs))
        forward = {
            name: (time, tuple(before for before in after if before < name)) for name, (time, after) in jobs.items()
        }

        def longest(name: str) -> int:
            time, after = forward[name]
            return time + max((longest(before) for before in after if before in forward), default=0)

        assert critical_path(run_of(forward))[1] == max(map(longest, forward), default=0)
        assert len(set(path)) == len(path)
        assert total == sum(jobs[name][0] for name in path)
        assert all(one in jobs[other][1] for one, other in zip(path, path[1:], strict=False))

    @settings(max_examples=40, deadline=None)
    @given(any_view)
    def test_any_view_has_a_summary(self, view: RunView) -> None:
        """RR-93: whatever the fold gives."""
        found = summary(view)

        assert sum(found.jobs.values()) == len(view.jobs)
        assert sum(found.calls.values()) == len(view.calls)

    def test_health_in_one_line(self) -> None:
        """RR-93: all that is wrong, and nothing that is not."""
        health = Health(
            corrupt=2, torn_bytes=7, dropped=3, clock_step_ms=-3_600_000, gaps=(SeqGap(first=1, last=3, is_explained=True),
            SeqGap(first=9, last=9, is_explained=False)),
        )  # fmt: skip

        assert health_line(health) == (
            "2 corrupt lines, 7 torn bytes at the end, 4 events missing (3 of them told), 3 events dropped by the writer, "
            "the clock stepped back by 1h00m"
        )
        assert health_line(Health()) == "clean"

    def test_exit_status_of_a_check(self) -> None:
        """RR-93: 0 complete and clean, 1 complete with defects, 2 crashed, 3 unreadable; 4 still running."""
        defect = view_of(EVENTS, state=RecordState.FINISHED, health=Health(corrupt=1))
        step = view_of(EVENTS, state=RecordState.FINISHED, health=Health(clock_step_ms=-99, unknown=1))

        assert [check_status(view) for view in (WHOLE, defect, CRASHED, None, RUNNING, step)] == [0, 1, 2, 3, 4, 0]
        assert summaries.RUNNING == 4
