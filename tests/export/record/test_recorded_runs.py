"""Whole runs and their records: what was told live is what is read afterwards."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import anyio
import msgspec
import pytest

from procflow import record
from procflow.record.recorder import Recorder
from procflow.record.redaction import Redactor
from procflow.record.sinks.files import FileSink
from procflow_export import Engine, Exporter, InProcessEngine, ProcessEngine, Progress, RunEvent, read_config
from procflow_export.engines.redaction import secrets_of_all
from procflow_export.model.codes import Code
from procflow_export.model.errors import WorkerError
from procflow_export.model.events import UnitEvent, UnitStarted, UnitWarning
from procflow_export.model.plan import UnitResult, WorkUnit
from procflow_export.model.settings import SourceConfig, SourceType
from procflow_export.pipeline.recorded import export_events, read_run
from procflow_export.pipeline.recording import Recording
from procflow_export.ui.board import Board
from procflow_export.ui.summary import render_summary
from tests.export.pipeline.runs import Shop, run
from tools.pytest_servers import mariadb_execute

pytestmark = pytest.mark.anyio

ENGINES: list[Callable[[], Engine]] = [lambda: InProcessEngine(max_units=2), lambda: ProcessEngine(max_units=2)]
EXPORTS: list[dict[str, Any]] = [
    {"name": "big", "table": "big", "mode": "chunked", "chunk_count": 3, "parallel": 2},
    {"name": "holes", "table": "holes"},
    {"name": "missing", "table": "nowhere"},
]


FIXED_FIELDS = (
    "name", "state", "mode", "source", "format", "row_count", "row_estimate", "size_bytes", "part_count", "chunks_done",
    "chunk_count", "retry_count", "warning_count",
)  # fmt: skip

HEADER = record.RunStarted(
    format=record.FORMAT,
    run_id="0190a0b0-0000-7000-8000-000000000000",
    name="export",
    procflow="0.1.0",
    python="3",
    platform="linux",
    host="here",
    pid=os.getpid(),
    redaction=record.RedactionInfo(enabled=True, rules=()),
)


@asynccontextmanager
async def recorded(folder: Path, redactor: Redactor | None = None) -> AsyncIterator[Recording]:
    recorder = Recorder([FileSink(folder / "events.jsonl")], redactor=redactor)
    recorder.emit(HEADER)
    try:
        yield Recording(recorder.emit, clean=None if redactor is None else redactor.redact_json)
    finally:
        ending = record.RunFinished(outcome="succeeded", duration_ns=recorder.mono_ns(), totals=recorder.totals())
        recorder.emit(ending)
        assert await recorder.aclose() == []


def plain(event: RunEvent) -> RunEvent:
    """Return ``event`` without its envelope."""
    return msgspec.structs.replace(event, seq=-1, at_ms=-1, mono_ns=-1)


def plain_of(event: RunEvent | None) -> RunEvent | None:
    return None if event is None else plain(event)


def board_of(events: Any) -> Board:
    board = Board()
    for event in events:
        board.apply(event)
    return board


def summary(events: Iterable[RunEvent]) -> list[str]:
    rows = render_summary(board_of(events), width=120, next_command=lambda names: f"again {names}")
    return [row.plain for row in rows]


@pytest.mark.parametrize("engine", ENGINES, ids=["in-process", "processes"])
async def test_a_record_tells_what_the_run_told(shop: Shop, engine: Callable[[], Engine]) -> None:
    """E-66: the events read from the record are those of the run, in order; only progress is told less often."""
    folder = shop.root / "record"
    async with recorded(folder) as recording:
        ran = await run(shop.config(*EXPORTS), engine=engine(), observer=recording)

    said = [plain(event) for event in read_run(folder)]
    told = [plain(event) for event in ran.events]
    assert [event for event in said if not isinstance(event, Progress)] == [
        event for event in told if not isinstance(event, Progress)
    ]
    assert [event for event in said if isinstance(event, Progress) and event not in told] == []


@pytest.mark.parametrize("engine", ENGINES, ids=["in-process", "processes"])
async def test_cards_and_summary_are_views_of_the_record(shop: Shop, engine: Callable[[], Engine]) -> None:
    """E-66: what was shown when the run ended can be shown again from its record."""
    folder = shop.root / "record"
    async with recorded(folder) as recording:
        ran = await run(shop.config(*EXPORTS), engine=engine(), observer=recording)

    live, after = board_of(ran.events), board_of(read_run(folder))
    for name, card in live.cards.items():
        again = after.cards[name]
        assert [getattr(again, field) for field in FIXED_FIELDS] == [getattr(card, field) for field in FIXED_FIELDS]
        assert plain_of(again.finished) == plain_of(card.finished)
    assert plain_of(after.finished) == plain_of(live.finished)
    assert [line.split("·")[0] for line in summary(read_run(folder))[-1:]] == [
        line.split("·")[0] for line in summary(ran.events)[-1:]
    ]


async def test_every_export_is_a_job_of_the_record(shop: Shop) -> None:
    """E-66: the jobs of the record are the exports, with their outcomes; why one failed stands at its job."""
    folder = shop.root / "record"
    async with recorded(folder) as recording:
        await run(shop.config(*EXPORTS), engine=InProcessEngine(max_units=2), observer=recording)

    view = record.load(folder)
    assert view.health.is_clean
    jobs = {job.job_id: job for job in view.jobs.values()}
    assert {name: job.outcome for name, job in jobs.items()} == {
        "big": "succeeded",
        "holes": "succeeded",
        "missing": "failed",
    }
    assert jobs["missing"].error is not None
    assert jobs["missing"].error.type == "SOURCE_NOT_FOUND"
    assert not view.open_jobs


async def test_what_workers_say_is_written_by_their_parent(shop: Shop) -> None:
    """E-66: one process writes; the record says which of its children took up which chunk."""
    folder = shop.root / "record"
    async with recorded(folder) as recording:
        await run(shop.config(*EXPORTS[:2]), engine=ProcessEngine(max_units=2), observer=recording)

    said = list(export_events(line.event for line in record.read_events(folder)))
    begun = [event for event in said if isinstance(event, UnitStarted)]
    assert sorted((event.export, event.chunk) for event in begun) == [("big", 0), ("big", 1), ("big", 2), ("holes", 0)]
    assert os.getpid() not in {event.pid for event in begun}


async def test_the_record_of_a_cancelled_run_balances(shop: Shop) -> None:
    """RR-15: every job that was begun is finished, and one that was not is skipped."""
    folder = shop.root / "record"
    slow = [{"name": f"slow{n}", "table": "big", "tuning": {"batch_size": 10, "throttle_ms": 5}} for n in range(6)]
    async with recorded(folder) as recording:

        def cancel(exporter: Exporter, event: RunEvent) -> None:
            if isinstance(event, Progress) and event.row_count:
                exporter.cancel()

        with anyio.fail_after(60):
            await run(shop.config(*slow), engine=InProcessEngine(max_units=1), observer=recording, on_event=cancel)

    view = record.load(folder)
    assert {job.outcome for job in view.jobs.values()} <= {"cancelled", "skipped"}
    assert len(view.jobs) == 6
    assert not any(job.synthesized for job in view.jobs.values())


CANARY = "c4n4ry/?#@:%&= ä"
FORMS = (
    CANARY,
    quote(CANARY, safe=""),
    quote_plus(CANARY),
    json.dumps(CANARY),
    base64.b64encode(CANARY.encode()).decode(),
)


class LeakyEngine(InProcessEngine):
    """An engine whose every word holds the password, as only a bug or a driver would have it."""

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        for form in FORMS:
            report(UnitWarning(export=unit.export, chunk=unit.index, code="X", message=f"cannot log in with {form}"))
        error = WorkerError(Code.INTERNAL, f"died of {CANARY}", stderr_tail="\n".join(FORMS))
        error.add_note(f"at mysql://me:{quote(CANARY, safe='')}@db.example/shop")
        raise error


def written_below(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


async def test_no_form_of_a_password_is_in_a_record(shop: Shop) -> None:
    """RR-76, E-2: what workers and failures say of a password is taken out of the record, whatever its form."""
    folder = shop.root / "record"
    source = {"type": "mysql", "url": f"mysql://me:{quote(CANARY, safe='')}@db.example/shop"}
    sources = [SourceConfig(type=SourceType.MYSQL, url=source["url"])]
    redactor = Redactor(secrets_of_all(sources, {}))
    async with recorded(folder, redactor) as recording:
        await run(shop.config(*EXPORTS[1:2]), engine=LeakyEngine(), observer=recording)

    text = written_below(folder)
    assert "cannot log in with" in text
    assert [form for form in (*FORMS, "c4n4ry") if form in text] == []


@pytest.mark.parametrize("engine", ENGINES, ids=["in-process", "processes"])
async def test_no_password_reaches_the_record_of_a_real_run(
    tmp_path: Path, engine: Callable[[], Engine], mariadb_database: str
) -> None:
    """RR-76, E-2: a login that works and one that the server refuses leave no password in the record."""
    address = urlsplit(mariadb_database)
    base = address.path[1:]
    user = f"u{base}"[:32]
    mariadb_execute(
        mariadb_database,
        f"CREATE OR REPLACE USER '{user}'@'%' IDENTIFIED BY '{CANARY}'",
        f"GRANT SELECT ON {base}.* TO '{user}'@'%'",
        "CREATE TABLE items (id INT PRIMARY KEY)",
        "INSERT INTO items VALUES (1), (2)",
    )
    urls = {
        "right": f"mysql://{user}:{quote(CANARY, safe='')}@127.0.0.1:{address.port}/{base}",
        "wrong": f"mysql://{user}:{quote(CANARY + 'x', safe='')}@127.0.0.1:{address.port}/{base}",
        "nowhere": f"mysql://{user}:{quote(CANARY, safe='')}@127.0.0.1:1/{base}",
    }
    loaded = read_config(
        {
            "sources": {name: {"type": "mysql", "url": url, "tls": {"mode": "disable"}} for name, url in urls.items()},
            "destination": {"type": "local", "path": "out"},
            "exports": [
                {"name": name, "source": name, "mode": "full", "format": "csv", "table": "items"} for name in urls
            ],
        },
        base_dir=tmp_path,
    )
    folder = tmp_path / "record"
    redactor = Redactor(secrets_of_all([SourceConfig(type=SourceType.MYSQL, url=url) for url in urls.values()], {}))
    with anyio.fail_after(60):
        async with recorded(folder, redactor) as recording:
            ran = await run(loaded, engine=engine(), observer=recording)
    mariadb_execute(mariadb_database, f"DROP USER '{user}'@'%'")

    assert {one.export: one.failure and one.failure.code.value for one in ran.result.exports} == {
        "right": None,
        "wrong": "SOURCE_AUTH_FAILED",
        "nowhere": "SOURCE_UNREACHABLE",
    }
    text = written_below(folder)
    assert "SOURCE_AUTH_FAILED" in text
    assert [form for form in (*FORMS, "c4n4ry") if form in text] == []
