"""The fold from events to a view."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.envelope import Head, Unknown, stamped
from procflow.record.events import (
    EVENT_TYPES,
    JobDeclared,
    JobStarted,
    RunEvent,
)
from procflow.record.fold.fold import MemoryRows, fold
from procflow.record.fold.recovery import failed_before, lost, recovered_jobs, reopened
from procflow.record.fold.rows import CallKey, JobKey, RunRow
from procflow.record.fold.view import RunFold, RunView, view_of
from procflow.record.reading.reader import Position, RecordReader
from procflow.record.reading.states import RecordState
from tests.core.record.sample import (
    EVENTS,
    LINES,
    RECORD,
    finished,
    header,
    job_finished,
    sample,
    stamp_all,
    started,
)
from tests.core.record.strategies import BY_TYPE

CRASHED: Final = RecordState.CRASHED
FINISHED: Final = RecordState.FINISHED

# Few ids and numbers, so that events speak of the same things.
few_ids = st.sampled_from(["a", "b"])
few = st.integers(min_value=0, max_value=3)
few_seqs = st.integers(min_value=0, max_value=12)


def narrowed(event: RunEvent, seq: int, job_id: str, attempt: int, sh: int) -> RunEvent:
    fields = {"job_id": job_id, "attempt": attempt, "sh": sh}
    held = {name: value for name, value in fields.items() if name in event.__struct_fields__}
    return msgspec.structs.replace(event, seq=seq, **held)


meeting_events = st.builds(narrowed, st.one_of(*BY_TYPE.values()), few_seqs, few_ids, few, few)


class TestTotality:
    @settings(max_examples=60, deadline=None)
    @given(events=st.lists(meeting_events, max_size=12), state=st.sampled_from(RecordState))
    def test_any_events_give_a_view(self, events: list[RunEvent], state: RecordState) -> None:
        """RR-88: no sequence of well-formed events raises, and the same one gives the same view."""
        view = view_of(events, state=state)

        assert view == view_of(events, state=state)
        for row in (view.run, *view.jobs.values(), *view.calls.values()):
            assert (row.outcome is None) is (row.finished_at_ms is None)
            assert row.duration_ns is None or row.duration_ns >= 0
        assert all(key.job in view.jobs for key in view.calls)

    @settings(max_examples=40, deadline=None)
    @given(events=st.lists(meeting_events, max_size=8, unique_by=lambda event: event.seq), data=st.data())
    def test_order_and_repetition_do_not_matter(self, events: list[RunEvent], data: st.DataObject) -> None:
        """RR-88, RR-52: events with numbers of their own, shuffled and repeated, give the same view."""
        repeated = data.draw(st.lists(st.sampled_from(events), max_size=4)) if events else []
        shuffled = data.draw(st.permutations([*events, *repeated]))

        assert view_of(shuffled, state=CRASHED) == view_of(events, state=CRASHED)

    def test_a_record_with_any_event_left_out(self) -> None:
        """RR-88: what is left is folded, in the order of the file and backwards, to the same view."""
        for left_out in range(len(EVENTS)):
            rest = EVENTS[:left_out] + EVENTS[left_out + 1 :]
            assert view_of(rest, state=FINISHED) == view_of(reversed(rest), state=FINISHED)

    def test_a_finish_without_its_start_makes_a_stub(self) -> None:
        """RR-52, RR-88: a call makes the attempt it belongs to, and a finish the call that it ends."""
        view = view_of(stamp_all([finished("a", 3, 7)]))

        assert view.calls[CallKey("a", 1, 3)].exit_code == 7
        assert view.calls[CallKey("a", 1, 3)].started_at_ms is None
        assert view.jobs[JobKey("a", 1)].is_open
        assert view.run.run_id is None

    def test_unknown_types_move_the_end_of_the_run(self) -> None:
        """RR-09, RR-44: they are events of the run, so the last one may be one of them."""
        unknown = Unknown(head=Head(type="new", seq=1, at_ms=99, mono_ns=50), raw=b"")

        view = view_of([*stamp_all([started("a", 1, "x")]), unknown], state=CRASHED)

        assert (view.run.last_seq, view.run.last_at_ms) == (1, 99)
        assert view.calls[CallKey("a", 1, 1)].finished_at_ms == 99


class TestMeaning:
    def test_the_sample(self) -> None:
        """RR-88: what the record says is what the view shows."""
        view = view_of(EVENTS, state=FINISHED)

        assert (view.run.name, view.run.outcome, view.run.meta) == ("nightly", "cancelled", {"why": "cron"})
        assert (view.run.cancel_reason, view.run.cancel_signal) == ("signal", "SIGTERM")
        assert {tuple(key): row.outcome for key, row in view.jobs.items()} == {
            ("build", 1): "failed",
            ("build", 2): "cancelled",
            ("lint", 1): "succeeded",
            ("test", 1): "skipped",
            ("deploy", 1): "skipped",
        }
        assert view.jobs[JobKey("test", 1)].because == ("build",)
        assert view.jobs[JobKey("test", 1)].after == ("build", "lint")
        first, second = view.calls_of(JobKey("build", 1))
        assert (first.argv, first.exit_code, first.pid) == (("make", "-j4"), 0, 101)
        assert (second.exit_code, second.pid, second.pid_start) == (2, 102, 2000)
        assert [note.key for note in view.notes] == ["git.sha", "lint.warnings"]
        assert not view.open_calls
        assert not view.open_jobs

    def test_a_retry_keeps_the_earlier_attempt(self) -> None:
        """RR-22: rows of both attempts stay, each with its calls."""
        view = view_of(EVENTS)

        assert view.calls[CallKey("build", 1, 1)].argv == ("make", "-j4")
        assert view.calls[CallKey("build", 2, 1)].argv == ("make", "-j1")

    @pytest.mark.parametrize("seed", range(3))
    def test_interleaved_jobs_give_the_rows_of_serial_ones(self, seed: int) -> None:
        """RR-19: 50 jobs with 50 calls each, woven together at random, give the same rows, times apart."""

        def events_of(job_id: str) -> list[RunEvent]:
            calls: list[RunEvent] = []
            for sh in range(1, 51):
                calls += [started(job_id, sh, "x"), finished(job_id, sh, sh)]
            return [JobStarted(job_id=job_id, attempt=1), *calls, job_finished(job_id)]

        jobs = [events_of(f"j{job}") for job in range(50)]
        chance = random.Random(seed)
        order = [job for job, events in enumerate(jobs) for _ in events]
        chance.shuffle(order)
        left = [iter(events) for events in jobs]
        woven = [next(left[job]) for job in order]

        assert untimed(view_of(stamp_all(woven))) == untimed(
            view_of(stamp_all([event for events in jobs for event in events]))
        )

    def test_a_thousand_calls_in_one_millisecond_with_a_clock_that_goes_back(self) -> None:
        """RR-23, RR-51: rows are named by numbers, so overlapping calls of one moment pair, in any order."""
        calls: list[RunEvent] = [started("a", sh, f"c{sh}") for sh in range(1, 1001)]
        ended: list[RunEvent] = [finished("a", sh, sh % 256) for sh in range(1, 1001)]
        random.Random(1).shuffle(ended)
        calls += ended
        events: list[RunEvent] = [
            stamped(event, seq=seq, at_ms=10_000 - seq // 900, mono_ns=5) for seq, event in enumerate(calls)
        ]
        shuffled = list(events)
        random.Random(2).shuffle(shuffled)

        view = view_of(events)

        assert len(view.calls) == 1000
        for key, row in view.calls.items():
            assert (row.cmd, row.exit_code) == (f"c{key.sh}", key.sh % 256)
        assert view_of(shuffled) == view

    def test_no_duration_is_negative(self) -> None:
        """RR-23: with the wall clock back by an hour, durations are those of the monotonic clock."""
        for back_at in range(len(EVENTS)):
            view = view_of(stamp_all(sample(), back_at=back_at)[:-5], state=CRASHED)
            rows = (view.run, *view.jobs.values(), *view.calls.values())
            assert all(row.duration_ns is not None and row.duration_ns >= 0 for row in rows)
            assert [tuple(key) for key in view.calls] == [
                ("build", 1, 1),
                ("build", 1, 2),
                ("lint", 1, 1),
                ("build", 2, 1),
            ]


class TestRecovery:
    def test_a_crashed_run_shows_what_was_open(self) -> None:
        """RR-53: finished calls, the open call with its command and start, and the job."""
        view = view_of(stamp_all([header(), JobStarted(job_id="a", attempt=1), started("a", 1, "make"), finished("a", 1),
                                  started("a", 2, "make", "test")]), state=CRASHED)  # fmt: skip

        assert view.calls[CallKey("a", 1, 1)].outcome == "exited"
        assert [(call.cmd, call.started_at_ms, call.outcome) for call in view.open_calls] == [
            ("make test", 1_767_225_600_004, "lost")
        ]
        assert [job.job_id for job in view.open_jobs] == ["a"]

    def test_what_was_open_is_lost_at_the_last_event(self) -> None:
        """RR-44: call, job and run end there, marked as made up; declared jobs that were never begun are skipped."""
        events = EVENTS[:13]
        view = view_of(events, state=CRASHED)
        last = events[-1]

        for row in (view.run, view.jobs[JobKey("build", 1)], view.calls[CallKey("build", 1, 1)]):
            assert (row.outcome, row.finished_at_ms, row.synthesized) == ("lost", last.at_ms, True)
            assert row.start_mono_ns is not None
            assert row.duration_ns == last.mono_ns - row.start_mono_ns
        for job_id in ("test", "deploy"):
            row = view.jobs[JobKey(job_id, 1)]
            assert (row.outcome, row.synthesized, row.duration_ns) == ("skipped", True, 0)

    def test_what_had_ended_is_left_alone(self) -> None:
        """RR-44: an ending that was written is never replaced."""
        view = view_of(EVENTS[:-1], state=CRASHED)

        assert view.run.synthesized
        assert not any(row.synthesized for row in (*view.jobs.values(), *view.calls.values()))

    def test_a_run_that_is_queued_or_running_is_not_touched(self) -> None:
        """RR-44: nothing is made up without an event, nor while the writer lives."""
        assert view_of([], state=CRASHED).run == RunRow(first_seq=0)
        running = view_of(EVENTS[:13], state=RecordState.RUNNING)
        assert not any(row.synthesized for row in (running.run, *running.jobs.values(), *running.calls.values()))

    def test_skipped_jobs_name_the_failed_ones_before_them(self) -> None:
        """RR-21: after a crash this is derived from what was declared, through jobs that were skipped themselves."""
        view = view_of(
            stamp_all(
                [JobDeclared(job_id="a"), JobDeclared(job_id="b", after=("a",)), JobDeclared(job_id="c", after=("b",)),
                 JobDeclared(job_id="d", after=("e", "a")), JobDeclared(job_id="free"), JobStarted(job_id="a", attempt=1),
                 job_finished("a", "failed"), JobStarted(job_id="e", attempt=1)]
            ),
            state=CRASHED,
        )  # fmt: skip

        because = {key.job_id: row.because for key, row in view.jobs.items() if row.outcome == "skipped"}
        assert because == {"b": ("a",), "c": ("a",), "d": ("e", "a"), "free": ()}

    def test_a_circle_of_jobs_has_an_end(self) -> None:
        """RR-21, RR-88: jobs that wait for each other, or for themselves, or for none that exists."""
        circle = {"a": ["b"], "b": ["c", "a"], "c": ["c", "a", "x"]}

        assert failed_before("a", circle, {"c": "failed"}) == ("c",)
        assert failed_before("a", circle, {}) == ()

    def test_a_later_attempt_says_that_the_first_was_begun(self) -> None:
        """RR-44: a declared job of which only the second attempt is known was not skipped."""
        view = view_of(stamp_all([JobDeclared(job_id="a"), JobStarted(job_id="a", attempt=2)]), state=CRASHED)

        assert [row.outcome for row in view.jobs.values()] == ["lost", "lost"]

    def test_an_end_that_is_missing_in_a_finished_run_is_lost_too(self) -> None:
        """RR-44: nothing is open in a record that is over."""
        view = view_of([event for event in EVENTS if event.seq not in (18, 19)], state=FINISHED)

        assert view.calls[CallKey("build", 1, 1)].outcome == "lost"
        assert view.jobs[JobKey("build", 1)].outcome == "lost"
        assert not view.run.synthesized


class TestMoreComes:
    def test_a_record_cut_at_every_byte(self) -> None:
        """RR-39, RR-44, RR-45: read, recover, then the rest appears: the view is that of the whole record."""
        whole = view_of(EVENTS, state=FINISHED)

        for size in range(len(RECORD) + 1):
            reader, rows = RecordReader(), MemoryRows()
            for line in reader.feed(RECORD[:size]):
                fold(rows, line.event)
            recover(rows)
            reopen(rows)
            for line in RecordReader(position=reader.position).feed(RECORD[reader.position.offset :]):
                fold(rows, line.event)
            assert view_of_rows(rows) == whole

    def test_real_endings_replace_those_that_were_made_up(self) -> None:
        """RR-45: also if nobody took them back before."""
        rows = MemoryRows()
        for event in EVENTS[:13]:
            fold(rows, event)
        recover(rows)
        for event in EVENTS[13:]:
            fold(rows, event)

        assert view_of_rows(rows) == view_of(EVENTS, state=FINISHED)

    @settings(max_examples=25, deadline=None)
    @given(cuts=st.lists(st.integers(min_value=0, max_value=len(RECORD)), max_size=4), recovered=st.booleans())
    def test_any_schedule_of_reading_gives_the_same_rows(self, cuts: list[int], recovered: bool) -> None:
        """RR-45: with any number of stops, recovered at each of them or not."""
        rows, position = MemoryRows(), Position()

        for stop in [*sorted(cuts), len(RECORD)]:
            reopen(rows)
            reader = RecordReader(position=position)
            for line in reader.feed(RECORD[position.offset : stop]):
                fold(rows, line.event)
            position = reader.position
            if recovered:
                recover(rows)

        assert view_of_rows(rows) == view_of(EVENTS, state=FINISHED)

    @settings(max_examples=40, deadline=None)
    @given(events=st.lists(meeting_events, max_size=8))
    def test_recovery_can_be_taken_back(self, events: list[RunEvent]) -> None:
        """RR-45: for any rows, what recovery made up goes without a trace."""
        rows = MemoryRows()
        for event in events:
            fold(rows, event)
        before = (rows.run(), dict(rows.jobs), dict(rows.calls))

        recover(rows)
        assert not any(row.is_open for row in (*rows.jobs.values(), *rows.calls.values()))
        reopen(rows)

        assert (rows.run(), rows.jobs, rows.calls) == before

    def test_a_live_fold_goes_on_after_a_view(self) -> None:
        """RR-45: asking for a view, even of a run that is thought dead, changes nothing."""
        folding = RunFold()
        for event in EVENTS:
            folding.add(event)
            folding.view(state=CRASHED)

        assert folding.view(state=FINISHED) == view_of(EVENTS, state=FINISHED)


def test_the_sample_shows_most_types() -> None:
    assert len(LINES) == 29
    assert {type(event) for event in EVENTS} | {"EventsDropped"} >= {
        kind for kind in EVENT_TYPES if kind.__name__ != "EventsDropped"
    }


def recover(rows: MemoryRows) -> None:
    """Do what an ingester does with a crashed run."""
    run = rows.run()
    if run is None:
        return
    for job in recovered_jobs(list(rows.jobs.values()), run):
        rows.put_job(job)
    for call in list(rows.calls.values()):
        rows.put_call(lost(call, run))
    rows.put_run(lost(run, run))


def reopen(rows: MemoryRows) -> None:
    """Do what an ingester does before more of a record."""
    run = rows.run()
    if run is None:
        return
    rows.put_run(reopened(run))
    for job in list(rows.jobs.values()):
        rows.put_job(reopened(job))
    for call in list(rows.calls.values()):
        rows.put_call(reopened(call))


def view_of_rows(rows: MemoryRows) -> RunView:
    folding = RunFold()
    folding._rows = rows
    return folding.view(state=FINISHED)


def untimed(view: RunView) -> dict[Sequence[object], object]:
    return {
        key: msgspec.structs.replace(
            row, first_seq=0, started_seq=0, finished_seq=0, started_at_ms=0, start_mono_ns=0, finished_at_ms=0
        )
        for rows in (view.jobs, view.calls)
        for key, row in rows.items()
    }
