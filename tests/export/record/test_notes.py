"""Events of an export as notes, and back."""

from __future__ import annotations

import contextlib
from typing import Any, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import Note, RecordCodec, Unknown, stamped
from procflow.record.events import MAX_NOTE_BYTES
from procflow.record.redaction import Redactor, Secret
from procflow_export.model.codes import Code
from procflow_export.model.errors import Failure
from procflow_export.model.events import Finished, PartWritten, RunStarted, Status, Warned
from procflow_export.model.notes import MAPS, event_of, note_codec, note_of
from tests.export.record.strategies import EVENT_TYPES, events, of_type

CODEC = note_codec()
PART = PartWritten(export="orders", chunk=3, key="orders-c00003-p000.parquet", row_count=7, size_bytes=512)


def recorded(note: Note, seq: int = 7) -> Note:
    """Return ``note`` as it is read from a record."""
    codec = RecordCodec()
    read = codec.decode(codec.encode(stamped(note, seq=seq, at_ms=1_700_000_000_000, mono_ns=5_000)))
    assert isinstance(read, Note)
    return read


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_was_noted_is_read(kind: type, data: st.DataObject) -> None:
    """E-66: every event of an export comes back from its note, with number and times of the record."""
    event = data.draw(of_type(kind))

    assert event_of(recorded(note_of(event)), CODEC) == stamped(event, seq=7, at_ms=1_700_000_000_000, mono_ns=5_000)


def test_the_note_of_an_event_has_not_changed() -> None:
    """E-66: key and value are a format: what an older release noted is what this one notes."""
    assert note_of(PART) == Note(
        key="export.part",
        value={
            "export": "orders",
            "chunk": 3,
            "key": "orders-c00003-p000.parquet",
            "row_count": 7,
            "size_bytes": 512,
        },
        job_id="orders",
        attempt=1,
    )


def test_what_is_about_the_run_is_on_no_job() -> None:
    """E-66: an event of an export stands on the job of that export, any other on the run."""
    note = note_of(RunStarted(run_id="r", exports=("a", "b"), engine="processes", max_units=2))

    assert (note.key, note.job_id, note.attempt) == ("export.run_started", None, None)


@given(
    st.builds(
        Note,
        key=st.sampled_from(["export.part", "export.finished", "export.x", "x.part"]),
        value=of_type(dict[str, int]),
    )
)
def test_every_note_is_read(note: Note) -> None:
    """RR-88: notes of other programs are no events, those of other releases are kept raw; none is an error."""
    said = event_of(recorded(note), CODEC)

    assert said is None if note.key == "x.part" else isinstance(said, Unknown)


@pytest.mark.parametrize("value", [None, 7, "text", [1], {"export": 1}, {"export": "a", "status": "<redacted:source>"}])
def test_a_value_that_is_not_what_its_key_promises_is_kept(value: object) -> None:
    """RR-88: a value that redaction or another writer has made unreadable is kept as it is."""
    said = event_of(recorded(Note(key="export.finished", value=value)), CODEC)

    assert isinstance(said, Unknown)
    assert said.head.type == "finished"


def test_text_that_is_no_unicode_is_made_readable() -> None:
    """RR-06: a path that is no UTF-8 costs no event."""
    said = event_of(recorded(note_of(Warned(export="orders", code="X", message="at \udcff"))), CODEC)

    assert isinstance(said, Warned)
    assert said.message == "at \\udcff"


def failed(**fields: Any) -> Finished:
    values: dict[str, Any] = {"message": "no", "notes": (), "stderr_tail": ""} | fields
    failure = Failure(code=Code.WORKER_DIED, **values)
    return Finished(run_id="r", export="orders", status=Status.FAILED, row_count=5, failure=failure)


@pytest.mark.parametrize(
    ("event", "cut"),
    [
        (failed(stderr_tail="line\n" * 50_000), {"failure.stderr_tail"}),
        (failed(stderr_tail="\x00" * 9_000, message="é" * 4_000), {"failure.stderr_tail", "failure.message"}),
        (failed(notes=("n" * 100,) * 5_000), {"failure.notes"}),
        (
            RunStarted(run_id="r", exports=tuple(f"export-{n}" for n in range(5_000)), engine="e", max_units=1),
            {"exports"},
        ),
        (Warned(export="orders", code="X", message="m" * 10**6), {"message"}),
        (
            msgspec.structs.replace(failed(), changed_values={f"column {n}": n for n in range(5_000)}),
            {"changed_values"},
        ),
    ],
    ids=["tail", "texts", "notes", "exports", "warning", "columns"],
)
def test_what_is_too_long_is_cut_and_told(event: Any, cut: set[str]) -> None:
    """RR-100: a note holds 8 KiB; the longest is cut, visibly, and what is left is still the event."""
    note = note_of(event)

    assert len(msgspec.json.encode(note.value)) <= MAX_NOTE_BYTES
    assert isinstance(note.value, dict)
    assert set(note.value["cut"]) == cut
    said = event_of(recorded(note), CODEC)
    assert type(said) is type(event)
    for name in ("export", "run_id", "status", "row_count", "code", "engine"):
        assert getattr(said, name, None) == getattr(event, name, None)


def test_of_a_long_text_the_beginning_and_the_end_are_kept() -> None:
    """RR-100: the first words of a worker name the cause, the last ones the verdict."""
    note = note_of(failed(stderr_tail="first cause " + "x" * 50_000 + " last words"))

    said = event_of(recorded(note), CODEC)
    assert isinstance(said, Finished)
    assert said.failure is not None
    tail = said.failure.stderr_tail
    assert tail.startswith("first cause")
    assert "…[cut]…" in tail
    assert tail.endswith("last words")


def test_of_many_columns_those_with_most_changes_are_kept() -> None:
    """RR-100: what is left of a long list is what an operator would ask for."""
    changed = {f"column {n}": n for n in range(5_000)}
    said = event_of(recorded(note_of(msgspec.structs.replace(failed(), changed_values=changed))), CODEC)

    assert isinstance(said, Finished)
    assert said.changed_values
    assert min(said.changed_values.values()) == 5_000 - len(said.changed_values)


@given(event=events, text=st.text(min_size=1, max_size=3))
def test_every_event_fits(event: Any, text: str) -> None:
    """RR-100: whatever a text of an event holds, its note has the size that a note may have."""
    tree = msgspec.to_builtins(event)
    longer = {name: value + text * 9_000 if isinstance(value, str) else value for name, value in tree.items()}
    with contextlib.suppress(msgspec.ValidationError):  # a field of words takes no other
        event = msgspec.convert(longer | {"type": tree["type"]}, type(event))

    assert len(msgspec.json.encode(note_of(event).value)) <= MAX_NOTE_BYTES


def test_secrets_are_taken_out_before_anything_is_cut() -> None:
    """RR-76: a secret that lies across the place of a cut leaves no half of itself."""
    secret = "".join(f"{n:05d}" for n in range(400))
    redactor = Redactor([Secret(secret, name="source")])
    for before in range(0, 4_000, 500):
        message = "a" * before + secret + "b" * 20_000
        note = note_of(Warned(export="orders", code="X", message=message), clean=redactor.redact_json)

        text = msgspec.json.encode(note.value).decode()
        assert not any(secret[n : n + 8] in text for n in range(0, len(secret), 8))


def test_every_map_is_known_as_one() -> None:
    """RR-100: only maps whose keys somebody named may lose keys."""

    def dicts(kind: Any, name: str = "") -> set[str]:
        if get_origin(kind) is dict:
            return {name}
        inside = getattr(kind, "__args__", ())
        found = {field for one in inside for field in dicts(one, name)}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found |= {field for name, hint in get_type_hints(kind).items() for field in dicts(hint, name)}
        return found

    assert {name for kind in EVENT_TYPES for name in dicts(kind)} == MAPS
