"""A run as events of OpenLineage.

The schema itself is no part of this repository.  Every event is rebuilt with the classes that OpenLineage's own client has made from
it, and must come out as it went in.  Where the environment names the folder ``spec`` of OpenLineage's repository in
``PROCFLOW_OPENLINEAGE_SPEC``, the schema is asked too.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.base import DatasetFacet, InputDatasetFacet, OutputDatasetFacet
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.parent_run import Job as ParentJob
from openlineage.client.generated.parent_run import ParentRunFacet
from openlineage.client.generated.parent_run import Run as ParentRun
from openlineage.client.serde import Serde
from referencing import Registry, Resource

from procflow.record import (
    ErrorInfo,
    JobDeclared,
    JobFinished,
    JobKey,
    JobStarted,
    Note,
    RecordState,
    RunView,
)
from procflow.record.events import RunEvent as RecordedEvent
from procflow.record.exports import (
    UnexportableError,
    job_uuid,
    lineage_events,
    openlineage_json,
    span_id,
    trace_spans,
)
from procflow.record.fold.view import view_of
from tests.core.record.exports.runs import damaged_runs, recorded_runs
from tests.core.record.sample import EVENTS, header, job_finished, stamp_all
from tests.core.record.strategies import json_values

RUN = "019b76da-a800-7000-8000-000000000001"
WHOLE = view_of(EVENTS, state=RecordState.FINISHED)
ENDINGS = {"COMPLETE", "FAIL", "ABORT"}
SPEC = os.environ.get("PROCFLOW_OPENLINEAGE_SPEC")

ORDERS = {"namespace": "postgres://db:5432", "name": "shop.public.orders"}
PARTS = {"namespace": "file", "name": "/data/orders.parquet"}

Json = Any


def whole(*events: RecordedEvent, state: RecordState = RecordState.FINISHED) -> RunView:
    return view_of(stamp_all(events), state=state)


def in_job(*notes: Note, ending: RecordedEvent | None = None) -> RunView:
    return whole(header(), JobStarted(job_id="load", attempt=1), *notes, ending or job_finished("load"))


def note(key: str, value: object, *, attempt: int | None = 1, sh: int | None = None) -> Note:
    return Note(key=key, value=value, job_id="load", attempt=attempt, sh=sh)


def events_of(view: RunView, **more: str) -> list[Json]:
    return list(lineage_events(view, **more))


def ends(view: RunView) -> list[Json]:
    return [event for event in events_of(view) if event["eventType"] in ENDINGS]


# --- the client's own classes -----------------------------------------------------------------------------------------


def rebuilt(event: Json) -> Json:
    """Return ``event`` as OpenLineage's client writes it; a key that its classes do not know is a TypeError."""
    event = dict(event)
    asked_url = event.pop("schemaURL")
    run, job = dict(event["run"]), dict(event["job"])
    run["facets"] = {name: RUN_FACETS[name](facet) for name, facet in run["facets"].items()}
    built = RunEvent(
        **event
        | {
            "eventType": RunState(event["eventType"]),
            "run": Run(**run),
            "job": Job(**job),
            "inputs": [data_set(InputDataset, InputDatasetFacet, "inputFacets", item) for item in event["inputs"]],
            "outputs": [data_set(OutputDataset, OutputDatasetFacet, "outputFacets", item) for item in event["outputs"]],
        }
    )
    assert built.schemaURL == asked_url
    return json.loads(Serde.to_json(built))


def facet_of(kind: Callable[..., Json], facet: Json, **fields: Json) -> Json:
    own = {name: value for name, value in facet.items() if not name.startswith("_")}
    return kind(**own | fields, producer=facet["_producer"])


def parent_facet(facet: Json) -> Json:
    return facet_of(ParentRunFacet, facet, run=ParentRun(**facet["run"]), job=ParentJob(**facet["job"]))


def data_set(kind: Callable[..., Json], facet_kind: Callable[..., Json], name: str, value: Json) -> Json:
    def facets(of: Callable[..., Json], found: Json) -> Json:
        return {
            key: of(producer=facet["_producer"]).with_additional_properties(
                **{word: item for word, item in facet.items() if not word.startswith("_")}
            )
            for key, facet in found.items()
        }

    value = dict(value)
    return kind(
        **value
        | {"facets": facets(DatasetFacet, value.get("facets", {})), name: facets(facet_kind, value.get(name, {}))}
    )


RUN_FACETS: dict[str, Callable[[Json], Json]] = {
    "parent": parent_facet,
    "errorMessage": lambda facet: facet_of(ErrorMessageRunFacet, facet),
}


def filled(value: Json) -> Json:
    """Return a value without the members that say nothing: OpenLineage's client writes facets also where there are none."""
    if isinstance(value, dict):
        return {
            key: filled(item)
            for key, item in value.items()
            if not (item == {} and key in {"facets", "inputFacets", "outputFacets"})
        }
    return [filled(item) for item in value] if isinstance(value, list) else value


def check(view: RunView) -> None:
    """Fail unless every event of ``view`` is one of OpenLineage."""
    for event in events_of(view):
        assert filled(rebuilt(event)) == filled(event)
        assert datetime.fromisoformat(event["eventTime"]).utcoffset() is not None
        assert urlsplit(event["producer"]).scheme
        if SPEC:
            validate(event)


# --- the published schema ---------------------------------------------------------------------------------------------


@functools.cache
def published(folder: str) -> Registry[Json]:
    """Return the schemas of a checkout of OpenLineage's ``spec``."""
    files = [path for path in Path(folder).rglob("*.json") if path.parent.name in {"spec", "facets"}]
    schemas = [json.loads(path.read_text("utf-8")) for path in files]
    return Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema)) for schema in schemas if "$id" in schema]
    )


def validate(event: Json) -> None:
    assert SPEC is not None
    registry = published(SPEC)
    Draft202012Validator({"$ref": event["schemaURL"]}, registry=registry).validate(event)
    for facet in event["run"]["facets"].values():
        Draft202012Validator({"$ref": facet["_schemaURL"]}, registry=registry).validate(facet)


# --- tests ------------------------------------------------------------------------------------------------------------


class TestEvents:
    def test_events_are_those_of_openlineage(self) -> None:
        """RR-99: the client that OpenLineage makes from its schema reads each event, and writes the same."""
        check(WHOLE)
        check(in_job(note("lineage.input", ORDERS | {"facets": {"schema": {"fields": []}}})))
        error = ErrorInfo(type="KeyError", message="'x'")
        check(in_job(ending=JobFinished(job_id="load", attempt=1, outcome="errored", duration_ns=1, error=error)))

    @settings(max_examples=60, deadline=None)
    @given(damaged_runs())
    def test_whatever_a_record_holds_events_are_those_of_openlineage(self, events: list[RecordedEvent]) -> None:
        """RR-99: also of a record with holes, and of one that crashed."""
        check(view_of(events, state=RecordState.CRASHED))

    @pytest.mark.skipif(not SPEC, reason="needs the published schema: PROCFLOW_OPENLINEAGE_SPEC=…/OpenLineage/spec")
    def test_the_published_schema_refuses_what_is_wrong(self) -> None:
        """RR-99: the check with the published schema would notice."""
        for member in ("run", "job", "eventTime", "producer", "schemaURL"):
            event = events_of(WHOLE)[0]
            url = event["schemaURL"]
            del event[member]
            registry = published(SPEC or "")
            assert not Draft202012Validator({"$ref": url}, registry=registry).is_valid(event)

    @settings(max_examples=100, deadline=None)
    @given(recorded_runs())
    def test_each_attempt_starts_once_and_ends_once(self, events: list[RecordedEvent]) -> None:
        """RR-99: one START and exactly one of COMPLETE, FAIL and ABORT, in this order and not before it in time."""
        view = view_of(events, state=RecordState.FINISHED)

        by_run: dict[str, list[Json]] = {}
        for event in events_of(view):
            by_run.setdefault(event["run"]["runId"], []).append(event)
        begun = [job for job in view.jobs.values() if job.started_seq is not None]
        assert set(by_run) == {str(job_uuid(RUN, job.key)) for job in begun}
        for first, last in by_run.values():
            assert (first["eventType"], last["eventType"] in ENDINGS) == ("START", True)
            assert first["eventTime"] <= last["eventTime"]

    def test_events_come_in_the_order_of_their_times(self) -> None:
        """RR-99: whoever reads the file line by line reads history."""
        times = [event["eventTime"] for event in events_of(WHOLE)]

        assert times == sorted(times)

    @pytest.mark.parametrize(
        ("outcome", "kind"),
        [
            ("succeeded", "COMPLETE"), ("failed", "FAIL"), ("errored", "FAIL"), ("cancelled", "ABORT"), ("a new word", "FAIL"),
        ],
    )  # fmt: skip
    def test_the_ending_follows_the_outcome(self, outcome: str, kind: str) -> None:
        """RR-99: cancelled is ABORT; what is not known to have succeeded is FAIL."""
        (end,) = ends(in_job(ending=job_finished("load", outcome)))

        assert end["eventType"] == kind

    def test_what_was_lost_is_aborted(self) -> None:
        """RR-99: an attempt that was open when its run crashed ends with ABORT at the last event."""
        events = events_of(view_of(EVENTS[:17], state=RecordState.CRASHED))

        assert Counter(event["eventType"] for event in events) == {"START": 2, "ABORT": 2}
        assert events[-1]["eventTime"] == "2026-01-01T00:00:00.016000Z"

    def test_a_running_attempt_has_only_started(self) -> None:
        """RR-99: it has no ending that nobody has seen."""
        events = events_of(view_of(EVENTS[:16], state=RecordState.RUNNING))

        assert [event["eventType"] for event in events] == ["START", "START"]

    def test_a_job_that_never_began_is_no_run(self) -> None:
        """RR-99: a skipped job, or one that is only declared, was no attempt."""
        names = {event["job"]["name"] for event in events_of(WHOLE)}

        assert names == {"nightly.build", "nightly.lint"}
        assert events_of(whole(header(), JobDeclared(job_id="x"), state=RecordState.RUNNING)) == []

    def test_run_ids_are_derived(self) -> None:
        """RR-99: the UUIDv5 of run, job and attempt, which the span of the attempt carries as well."""
        first = events_of(in_job())[0]["run"]["runId"]

        assert UUID(first).version == 5
        assert UUID(first) == uuid5(UUID(RUN), "1:load")
        (span,) = [span for span in trace_spans(in_job()) if span.span_id == span_id(RUN, JobKey("load", 1))]
        assert span.attributes["cicd.pipeline.task.run.id"] == first

    def test_the_run_of_procflow_is_the_parent(self) -> None:
        """RR-99: every event has a parent facet with the id and the name of the run."""
        for event in events_of(WHOLE, namespace="etl"):
            parent = event["run"]["facets"]["parent"]
            assert parent["run"] == {"runId": RUN}
            assert parent["job"] == {"namespace": "etl", "name": "nightly"}
            assert event["job"]["namespace"] == "etl"

    def test_an_error_is_told(self) -> None:
        """RR-99: the message of the exception that ended an attempt, redacted as the record is."""
        error = ErrorInfo(type="KeyError", message="'x'")
        (end,) = ends(
            in_job(ending=JobFinished(job_id="load", attempt=1, outcome="errored", duration_ns=1, error=error))
        )

        facet = end["run"]["facets"]["errorMessage"]
        assert (facet["message"], facet["programmingLanguage"]) == ("'x'", "python")

    def test_the_file_is_one_event_a_line(self) -> None:
        """RR-99: the export is NDJSON, ready to be written to a file or posted line by line."""
        assert [json.loads(line) for line in openlineage_json(WHOLE).splitlines()] == events_of(WHOLE)

    def test_a_record_without_its_first_event_cannot_be_named(self) -> None:
        """RR-99: without the id of the run there is no parent, and that is said."""
        with pytest.raises(UnexportableError, match="names its run"):
            events_of(view_of(EVENTS[5:], state=RecordState.FINISHED))


class TestDataSets:
    def test_notes_name_what_was_read_and_written(self) -> None:
        """RR-99: ``lineage.input`` and ``lineage.output``, of the attempt or of a call of it, are in its last event."""
        view = in_job(note("lineage.input", ORDERS), note("lineage.output", PARTS, sh=1), note("other.key", PARTS))

        start, end = events_of(view)

        assert (start["inputs"], start["outputs"]) == ([], [])
        assert (end["inputs"], end["outputs"]) == ([ORDERS], [PARTS])

    def test_a_note_may_come_until_the_end(self) -> None:
        """RR-99: one that was made after the attempt ended changes nothing any more."""
        view = whole(
            header(),
            JobStarted(job_id="load", attempt=1),
            note("lineage.input", ORDERS),
            job_finished("load"),
            note("lineage.input", PARTS),
        )

        (end,) = ends(view)

        assert end["inputs"] == [ORDERS]

    def test_a_lost_attempt_keeps_its_notes(self) -> None:
        """RR-99: what was known when the run crashed is told with the ABORT."""
        view = whole(
            header(), JobStarted(job_id="load", attempt=1), note("lineage.output", PARTS), state=RecordState.CRASHED
        )

        (end,) = ends(view)

        assert end["outputs"] == [PARTS]

    def test_a_note_without_an_attempt_is_of_the_one_that_runs(self) -> None:
        """RR-99: one that names only its job belongs to the attempt that began last before it, else to the first."""
        view = whole(
            header(),
            JobDeclared(job_id="load"),
            note("lineage.input", PARTS, attempt=None),
            JobStarted(job_id="load", attempt=1),
            job_finished("load", "failed"),
            JobStarted(job_id="load", attempt=2),
            note("lineage.input", ORDERS, attempt=None),
            job_finished("load", attempt=2),
        )

        assert [end["inputs"] for end in ends(view)] == [[PARTS], [ORDERS]]

    def test_a_note_of_no_job_is_of_none(self) -> None:
        """RR-99: OpenLineage knows data sets of jobs only."""
        (end,) = ends(in_job(Note(key="lineage.input", value=ORDERS)))

        assert end["inputs"] == []

    def test_a_list_names_several(self) -> None:
        """RR-99: in the order in which they were named, each once; the facets that came last hold."""
        again = ORDERS | {"facets": {"schema": {"fields": [1]}}}
        (end,) = ends(in_job(note("lineage.input", [ORDERS, PARTS]), note("lineage.input", again)))

        assert [item["name"] for item in end["inputs"]] == [ORDERS["name"], PARTS["name"]]
        assert end["inputs"][0]["facets"]["schema"]["fields"] == [1]

    def test_facets_get_what_every_facet_must_have(self) -> None:
        """RR-99: ``_producer`` and ``_schemaURL`` are added where the note leaves them out, and only there."""
        facets = {"plain": {"x": 1}, "own": {"_producer": "urn:mine", "_schemaURL": "urn:own", "y": 2}, "odd": 3}
        value = PARTS | {
            "facets": facets,
            "outputFacets": {"rows": {"rowCount": 9}},
            "inputFacets": {"a": {}},
            "more": 1,
        }
        (end,) = ends(in_job(note("lineage.output", value)))

        (found,) = end["outputs"]
        assert set(found) == {"namespace", "name", "facets", "outputFacets"}
        assert set(found["facets"]) == {"plain", "own"}
        assert found["facets"]["own"] == facets["own"]
        assert found["facets"]["plain"]["_producer"] == "urn:procflow:0.1.0"
        assert found["outputFacets"]["rows"]["_schemaURL"].endswith("#/$defs/OutputDatasetFacet")

    @pytest.mark.parametrize(
        "value", [None, "orders", 3, {}, {"name": "x"}, {"namespace": "", "name": "x"}, [[ORDERS]]]
    )
    def test_a_note_of_another_shape_is_left_out(self, value: object) -> None:
        """RR-99: what is no data set does not spoil the others."""
        (end,) = ends(in_job(note("lineage.input", value), note("lineage.input", ORDERS)))

        assert end["inputs"] == [ORDERS]

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            json_values | st.fixed_dictionaries({"namespace": st.text(), "name": st.text(), "facets": json_values})
        )
    )
    def test_any_note_can_be_exported(self, values: list[object]) -> None:
        """RR-99: whatever notes hold, the export is made."""
        view = in_job(*(note("lineage.output", value) for value in values))

        assert len(openlineage_json(view).splitlines()) == 2
