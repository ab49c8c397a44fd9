"""The wire format of a run, version 1.0."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.outcome import EndedBy, Outcome
from procflow.record import events
from procflow.record.codec import RecordCodec, note_value
from procflow.record.endings import ending
from procflow.record.envelope import Event, EventCodec, MalformedEventError, Unknown
from procflow.record.errors import UnrecordableError
from procflow.record.events import (
    EVENT_TYPES,
    FORMAT,
    EventsDropped,
    JobFinished,
    JobStarted,
    Note,
    RunEvent,
    RunStarted,
    ShFinished,
    word_of_today,
)
from tests.core.record.strategies import BY_TYPE, any_event, json_values

GOLDEN = Path(__file__).parent / "golden"
CODEC = RecordCodec()
HUGE = 2**63


def tag(event_type: type[Event]) -> str:
    name = event_type.__struct_config__.tag
    assert isinstance(name, str)
    return name


class TestFormat:
    def test_the_strategies_leave_no_type_out(self) -> None:
        assert set(BY_TYPE) == set(EVENT_TYPES)

    @pytest.mark.parametrize("event_type", EVENT_TYPES, ids=tag)
    def test_every_type_survives_the_line(self, event_type: type[RunEvent]) -> None:
        """RR-04: encode, decode, encode gives the same bytes."""

        @settings(max_examples=30, deadline=None)
        @given(BY_TYPE[event_type])
        def survives(event: RunEvent) -> None:
            line = CODEC.encode(event)
            read = CODEC.decode(line)

            assert type(read) is event_type
            assert CODEC.encode(read) == line

        survives()

    @settings(deadline=None)
    @given(any_event)
    def test_a_line_is_one_line_of_utf_8(self, event: RunEvent) -> None:
        """RR-01: one JSON object, ended by the only newline, whatever the texts hold."""
        line = CODEC.encode(event)

        assert line.endswith(b"}\n")
        assert line.count(b"\n") == 1
        assert isinstance(json.loads(line.decode("utf-8")), dict)
        assert not line.startswith(b"\xef\xbb\xbf")

    @pytest.mark.parametrize("event_type", EVENT_TYPES, ids=tag)
    @pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.glob("[0-9]*")))
    def test_golden_records_stay_readable(self, version: str, event_type: type[RunEvent]) -> None:
        """RR-04, RR-11: what a release has written is read for ever, as the type it was, and written as it was."""
        lines = (GOLDEN / version / f"{tag(event_type)}.jsonl").read_bytes().splitlines(keepends=True)

        assert len(lines) >= 2  # one with every field, one with none that may be left out
        for line in lines:
            event = CODEC.decode(line)
            assert type(event) is event_type
            assert CODEC.encode(event) == line

    def test_golden_records_have_every_field(self) -> None:
        """RR-04: the golden lines show each field of each type."""
        for event_type in EVENT_TYPES:
            text = (GOLDEN / "1.0" / f"{tag(event_type)}.jsonl").read_text("utf-8")
            shown = set().union(*(json.loads(line) for line in text.splitlines()))
            assert set(event_type.__struct_fields__) - shown == set()

    def test_the_first_version(self) -> None:
        assert FORMAT == (1, 0)

    def test_a_synonym_is_read_and_never_written(self) -> None:
        """RR-11: a word that was written once is accepted; the event is that of today."""
        codec: EventCodec[JobStarted] = EventCodec((JobStarted,), synonyms={"job_begun": "job_started"})

        event = codec.decode(b'{"type":"job_begun","seq":1,"at_ms":2,"mono_ns":3,"job_id":"a","attempt":1}')

        assert event == JobStarted(seq=1, at_ms=2, mono_ns=3, job_id="a", attempt=1)
        with pytest.raises(MalformedEventError):
            codec.decode(b'{"type":"job_begun","seq":1,"at_ms":2,"mono_ns":3,"job_id":1}')

    def test_outcome_words_have_synonyms_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-11: who judges an outcome asks for the word of today; one that nobody knows stays."""
        monkeypatch.setitem(events.WORD_SYNONYMS, "complete", "succeeded")

        assert word_of_today("complete") == "succeeded"
        assert word_of_today("undone") == "undone"

    def test_no_word_or_type_is_renamed(self) -> None:
        """RR-11: a synonym leads to a word that exists, and never hides one."""
        words = {*events.SH_OUTCOMES, *events.JOB_OUTCOMES, *events.RUN_OUTCOMES}
        types = {tag(event_type) for event_type in EVENT_TYPES}

        assert set(events.WORD_SYNONYMS.values()) <= words
        assert not set(events.WORD_SYNONYMS) & words
        assert set(events.TYPE_SYNONYMS.values()) <= types
        assert not set(events.TYPE_SYNONYMS) & types


class TestNumbers:
    @pytest.mark.parametrize("number", [HUGE, -HUGE - 1, 2**64, 10**400])
    def test_no_huge_integer_is_written(self, number: int) -> None:
        """RR-05: an integer outside 64 bits is refused, in a field and deep in a note."""
        with pytest.raises(UnrecordableError):
            CODEC.encode(EventsDropped(seq=1, at_ms=1, mono_ns=1, count=number, first_seq=0, last_seq=0, reason=""))
        with pytest.raises(UnrecordableError):
            CODEC.encode(Note(seq=1, at_ms=1, mono_ns=1, key="a.b", value=[{"x": [number]}]))
        with pytest.raises(UnrecordableError):
            note_value({"x": number})

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    def test_no_number_that_is_none_is_written(self, number: float) -> None:
        """RR-05: NaN and the infinities never reach a line."""
        line = CODEC.encode(Note(seq=1, at_ms=1, mono_ns=1, key="a.b", value=[number]))

        assert json.loads(line)["value"] == [None]
        with pytest.raises(UnrecordableError):
            note_value([number])

    @pytest.mark.parametrize(
        "text",
        [
            b"9223372036854775808",
            b"-9223372036854775809",
            b"1" * 5000,
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"1e999",
            b"1E+999",
            b"12345e305",
            b"1" * 400 + b".5",
        ],
    )
    @pytest.mark.parametrize(
        "line",
        [
            b'{"type":"job_started","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a","attempt":%s}',
            b'{"type":"job_started","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a","attempt":1,"new":[%s]}',
            b'{"type":"not_known","seq":1,"at_ms":1,"mono_ns":1,"new":{"x":%s}}',
            b'{"type":"note","seq":1,"at_ms":1,"mono_ns":1,"key":"a.b","value":%s}',
        ],
        ids=["field", "unknown field", "unknown type", "note"],
    )
    def test_such_a_line_is_broken(self, line: bytes, text: bytes) -> None:
        """RR-05: a reader that meets such a number counts the line as corrupt, in whatever part of it."""
        with pytest.raises(MalformedEventError):
            CODEC.decode(line % text)

    @pytest.mark.parametrize("number", [HUGE - 1, -HUGE, 1.7e308, 5e-324, -0.0])
    def test_the_outermost_numbers_are_kept(self, number: float) -> None:
        """RR-05: nothing that fits is refused."""
        note = Note(seq=HUGE - 1, at_ms=-HUGE, mono_ns=HUGE - 1, key="a.b", value={"x": number})

        assert CODEC.decode(CODEC.encode(note)) == note

    def test_digits_in_a_text_are_no_number(self) -> None:
        """RR-05: a long account number in a text does not make the line suspicious for good."""
        note = Note(seq=1, at_ms=1, mono_ns=1, key="a.b", value="12345678901234567890123 1e999")

        assert CODEC.decode(CODEC.encode(note)) == note

    @settings(deadline=None)
    @given(json_values)
    def test_a_note_reads_back_as_it_was_checked(self, value: object) -> None:
        """RR-05: what `note_value()` lets pass is what a reader gets."""
        checked = note_value(value)
        read = CODEC.decode(CODEC.encode(Note(seq=1, at_ms=1, mono_ns=1, key="a.b", value=checked)))

        assert isinstance(read, Note)
        assert read.value == checked

    @pytest.mark.parametrize("value", [object(), {1, 2, object()}, "x" * 9000, 1j])
    def test_what_is_no_json_is_refused_where_it_is_said(self, value: object) -> None:
        """RR-05: the caller of a note learns at once what is wrong with it, and the message does not show it."""
        with pytest.raises(UnrecordableError) as caught:
            note_value(value)

        assert "xxx" not in str(caught.value)

    def test_a_note_that_contains_itself_is_refused(self) -> None:
        """RR-05: the caller of a note learns at once that it has no end."""
        endless: list[object] = []
        endless.append(endless)

        with pytest.raises(UnrecordableError):
            note_value(endless)


class TestReading:
    def test_text_that_is_no_unicode_is_made_readable(self) -> None:
        """RR-01, RR-06: a half of a surrogate pair, wherever it comes from, is no error."""
        note = Note(seq=1, at_ms=1, mono_ns=1, key="a.b", value={"\ud800k": ["\udcff"]}, job_id="j\ud800")

        read = CODEC.decode(CODEC.encode(note))

        assert isinstance(read, Note)
        assert (read.value, read.job_id) == ({"\\ud800k": ["\\udcff"]}, "j\\ud800")
        assert note_value("\ud800") == "\\ud800"

    def test_unknown_fields_types_and_words(self) -> None:
        """RR-09: fields are skipped, types kept with their bytes, outcome words kept verbatim, absent fields absent."""
        new_field = CODEC.decode(
            b'{"type":"job_started","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a","attempt":1,"by":{}}'
        )
        new_type_line = b'{"type":"job_paused","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a"}'
        new_type = CODEC.decode(new_type_line + b"\n")
        new_word = CODEC.decode(
            b'{"type":"job_finished","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a","attempt":1,"outcome":"odd","duration_ns":0}'
        )

        assert new_field == JobStarted(seq=1, at_ms=1, mono_ns=1, job_id="a", attempt=1)
        assert isinstance(new_type, Unknown)
        assert new_type.raw == new_type_line
        assert isinstance(new_word, JobFinished)
        assert (new_word.outcome, new_word.error) == ("odd", None)

    @pytest.mark.parametrize(
        "line",
        [
            b'{"type":"job_started","at_ms":1,"mono_ns":1,"job_id":"a","attempt":1}',
            b'{"type":"job_started","seq":1,"at_ms":1,"job_id":"a","attempt":1}',
            b'{"type":"job_started","seq":-4,"at_ms":1,"mono_ns":1,"job_id":"a","attempt":1}',
            b'{"type":"job_started","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a"}',
            b'{"type":"job_started","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a","attempt":1,"new":"\xff"}',
            b'{"type":"not_known","seq":1,"at_ms":1,"mono_ns":1,"new":"\xff"}',
            b'{"type":"not_known"}',
            b"\x00" * 40,
        ],
    )
    def test_a_line_without_its_place_or_with_odd_bytes_is_broken(self, line: bytes) -> None:
        """RR-01, RR-09: only optional fields may be missing, and every byte is UTF-8."""
        with pytest.raises(MalformedEventError):
            CODEC.decode(line)

    @given(st.binary(max_size=80))
    def test_no_bytes_raise_anything_else(self, line: bytes) -> None:
        """RR-09: whatever arrives, a reader has one error to expect."""
        try:
            CODEC.decode(line)
        except MalformedEventError as exc:
            assert exc.line == line.rstrip(b"\r\n")

    def test_a_header_of_a_later_minor_version(self) -> None:
        """RR-09: a header with more in it is still a header."""
        line = msgspec.json.encode(
            {
                "type": "run_started", "seq": 0, "at_ms": 1, "mono_ns": 0, "format": [1, 7], "run_id": "r", "name": "n",
                "procflow": "9", "python": "3", "platform": "linux", "host": "h", "pid": 1, "shards": 3,
                "redaction": {"enabled": True, "rules": [], "kind": "new"},
            }
        )  # fmt: skip

        event = CODEC.decode(line)

        assert isinstance(event, RunStarted)
        assert event.format == (1, 7)


def outcome(
    *, exit_code: int | None = None, ended_by_signal: int | None = None, by: EndedBy = EndedBy.ITSELF
) -> Outcome:
    now = datetime.now(UTC)
    return Outcome(
        name="x", pid=1, exit_code=exit_code, signal=ended_by_signal, core_dumped=False, ended_by=by,
        started_at=now, ended_at=now, started_mono_s=0.0, ended_mono_s=1.0,
    )  # fmt: skip


class TestEndings:
    def test_a_killed_process_has_no_exit_code(self) -> None:
        """RR-08: signal 9 is `signaled` with its name; 255 is an exit, and -1 does not occur."""
        killed = ending(outcome(ended_by_signal=signal.SIGKILL))
        exited = ending(outcome(exit_code=255))

        assert (killed.outcome, killed.signal, killed.exit_code) == ("signaled", "SIGKILL", None)
        assert (exited.outcome, exited.signal, exited.exit_code) == ("exited", None, 255)

    def test_what_is_absent_is_not_on_the_line(self) -> None:
        """RR-08: a line has `exit_code` or `signal` or neither, and a 0 is written."""
        common = {"seq": 1, "at_ms": 1, "mono_ns": 1, "job_id": "a", "attempt": 1, "sh": 1, "duration_ns": 1,
                  "stdout_bytes": 0, "stderr_bytes": 0}  # fmt: skip
        killed = msgspec.convert(
            {**common, "type": "sh_finished", "outcome": "signaled", "signal": "SIGKILL"}, ShFinished
        )
        exited = msgspec.convert({**common, "type": "sh_finished", "outcome": "exited", "exit_code": 0}, ShFinished)

        assert b"exit_code" not in CODEC.encode(killed)
        assert b'"exit_code":0' in CODEC.encode(exited)
        assert b"signal" not in CODEC.encode(exited)

    @pytest.mark.parametrize(
        ("by", "word"),
        [
            (EndedBy.TIMEOUT, "timed_out"),
            (EndedBy.IDLE_TIMEOUT, "timed_out"),
            (EndedBy.CANCEL, "cancelled"),
            (EndedBy.KILL, "signaled"),
        ],
    )
    def test_who_ended_it_comes_first(self, by: EndedBy, word: str) -> None:
        """RR-08: a timeout and a cancellation keep the signal beside their word."""
        said = ending(outcome(ended_by_signal=signal.SIGTERM, by=by))

        assert (said.outcome, said.signal, said.exit_code) == (word, "SIGTERM", None)

    def test_an_unknown_status(self) -> None:
        """RR-08: where nobody can tell, neither a code nor a signal is invented."""
        said = ending(outcome())

        assert (said.exit_code, said.signal) == (None, None)
