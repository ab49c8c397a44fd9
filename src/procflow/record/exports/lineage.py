"""A run as events of OpenLineage: what each attempt at a job read and wrote.

Owns the mapping from rows and notes to run events of OpenLineage 2-0-2 (``https://openlineage.io/spec/2-0-2/OpenLineage.json``).
Must not know files, nor who reads them.

Each attempt that began is a run of OpenLineage, with the run of procflow as its parent.  Its first event says ``START``, its last one
``COMPLETE``, ``FAIL`` or ``ABORT`` and names the data sets.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, cast
from urllib.parse import quote

import msgspec

from procflow.record.errors import UnexportableError
from procflow.record.events import CANCELLED, LOST, SKIPPED, SUCCEEDED
from procflow.record.exports.ids import job_uuid, run_uuid
from procflow.record.exports.times import TimeAxis, first_calls
from procflow.record.fold.rows import JobKey, JobRow, NoteRow, RunRow
from procflow.record.fold.view import RunView

INPUT_NOTE: Final = "lineage.input"
OUTPUT_NOTE: Final = "lineage.output"
DEFAULT_NAMESPACE: Final = "procflow"

_SPEC: Final = "https://openlineage.io/spec"
_EVENT_SCHEMA: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACET_SCHEMAS: Final = {
    "facets": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/DatasetFacet",
    "inputFacets": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/InputDatasetFacet",
    "outputFacets": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/OutputDatasetFacet",
}
_PARENT_SCHEMA: Final = f"{_SPEC}/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet"
_ERROR_SCHEMA: Final = f"{_SPEC}/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENDINGS: Final = {SUCCEEDED: "COMPLETE", CANCELLED: "ABORT", LOST: "ABORT"}

Json: TypeAlias = dict[str, object]


def openlineage_json(view: RunView, *, namespace: str = DEFAULT_NAMESPACE) -> bytes:
    """Return the events of ``view`` as NDJSON, one event of OpenLineage a line, in the order of their times.

    Data sets come from notes ``lineage.input`` and ``lineage.output`` that an attempt, or a call of it, made before it ended.  Their
    value is an object with ``namespace`` and ``name``, and facets if there are any, or a list of such objects; a note of another
    shape is left out.  Only the last event of an attempt names them, so an attempt that still runs has only its ``START``.

    Args:
        view: What was recorded.
        namespace: The namespace of the jobs; in it a job is called ``run.job``.

    Raises:
        UnexportableError: If the event that names the run is missing.
    """
    return b"".join(msgspec.json.encode(event) + b"\n" for event in lineage_events(view, namespace=namespace))


def lineage_events(view: RunView, *, namespace: str = DEFAULT_NAMESPACE) -> list[Json]:
    """Return the events that ``openlineage_json()`` writes, as JSON values."""
    run = view.run
    if run.run_id is None:
        raise UnexportableError("the event that names its run is missing")
    maker = _EventMaker(run.run_id, run, namespace)
    begun_ns = first_calls(maker.axis, view)
    notes = _notes_by_attempt(view)
    events: list[tuple[int, int, Json]] = []
    for job in view.jobs.values():
        if not job.has_begun or job.outcome == SKIPPED:
            continue
        start_ns = maker.axis.job_ns(job, first_call_ns=begun_ns.get(job.key))
        events.append((start_ns, job.first_seq, maker.event("START", start_ns, job)))
        if not job.is_open:
            end_ns = maker.axis.end_ns(start_ns, job)
            events.append((end_ns, job.first_seq, maker.ending(end_ns, job, notes.get(job.key, []))))
    # Sorting is stable: of one attempt the start comes first, also where it took no time.
    return [event for _, _, event in sorted(events, key=lambda found: found[:2])]


class _EventMaker:
    """What the events of one run have in common."""

    def __init__(self, run_id: str, run: RunRow, namespace: str) -> None:
        self.axis: Final = TimeAxis(run)
        self._run_id: Final = run_id
        self._run_name: Final = run.name or "run"
        self._namespace: Final = namespace
        self._producer: Final = f"urn:procflow:{quote(run.procflow or 'unknown')}"

    def event(self, kind: str, at_ns: int, job: JobRow) -> Json:
        parent = {
            **self._facet(_PARENT_SCHEMA),
            "run": {"runId": str(run_uuid(self._run_id))},
            "job": {"namespace": self._namespace, "name": self._run_name},
        }
        return {
            "eventType": kind,
            "eventTime": _time_text(at_ns),
            "run": {"runId": str(job_uuid(self._run_id, job.key)), "facets": {"parent": parent}},
            "job": {"namespace": self._namespace, "name": f"{self._run_name}.{job.job_id}", "facets": {}},
            "inputs": [],
            "outputs": [],
            "producer": self._producer,
            "schemaURL": _EVENT_SCHEMA,
        }

    def ending(self, at_ns: int, job: JobRow, notes: Iterable[NoteRow]) -> Json:
        event = self.event(_ENDINGS.get(job.outcome or LOST, "FAIL"), at_ns, job)
        told = [note for note in notes if job.finished_seq is None or note.seq < job.finished_seq]
        event["inputs"] = self._data_sets(told, INPUT_NOTE, ("facets", "inputFacets"))
        event["outputs"] = self._data_sets(told, OUTPUT_NOTE, ("facets", "outputFacets"))
        if job.error is not None:
            run = cast("dict[str, Json]", event["run"])
            run["facets"]["errorMessage"] = {
                **self._facet(_ERROR_SCHEMA), "message": job.error.message or job.error.type, "programmingLanguage": "python",
            }  # fmt: skip
        return event

    def _data_sets(self, notes: Iterable[NoteRow], key: str, facet_kinds: Iterable[str]) -> list[Json]:
        """Return the data sets of the notes ``key``, each once; what was said last of one holds."""
        found: dict[tuple[str, str], Json] = {}
        for value in (value for note in notes if note.key == key for value in _values(note.value)):
            match value:
                case {"namespace": str(namespace), "name": str(name), **more} if namespace and name:
                    data_set: Json = {"namespace": namespace, "name": name}
                    for kind in facet_kinds:
                        if facets := self._facets(more.get(kind), _FACET_SCHEMAS[kind]):
                            data_set[kind] = facets
                    found[namespace, name] = data_set
                case _:
                    pass
        return list(found.values())

    def _facets(self, value: object, schema: str) -> Json:
        if not isinstance(value, dict):
            return {}
        return {name: {**self._facet(schema), **facet} for name, facet in value.items() if isinstance(facet, dict)}

    def _facet(self, schema: str) -> Json:
        return {"_producer": self._producer, "_schemaURL": schema}


def _notes_by_attempt(view: RunView) -> dict[JobKey, list[NoteRow]]:
    """Return the notes of each attempt.

    One that names only a job belongs to the attempt that had begun last when it was made, or else to the first.
    """
    begun: dict[str, list[JobRow]] = {}
    for job in sorted((job for job in view.jobs.values() if job.has_begun), key=_begun_seq):
        begun.setdefault(job.job_id, []).append(job)
    found: dict[JobKey, list[NoteRow]] = {}
    for note in view.notes:
        if note.job_id is None:
            continue
        if note.attempt is not None:
            found.setdefault(JobKey(note.job_id, note.attempt), []).append(note)
        elif attempts := begun.get(note.job_id):
            place = bisect.bisect_left(attempts, note.seq, key=_begun_seq)
            found.setdefault(attempts[max(place - 1, 0)].key, []).append(note)
    return found


def _begun_seq(job: JobRow) -> int:
    return job.started_seq if job.started_seq is not None else job.first_seq


def _values(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _time_text(at_ns: int) -> str:
    moment = _EPOCH + timedelta(microseconds=at_ns // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
