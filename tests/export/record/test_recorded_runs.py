"""Whole runs and their records: what was told live is what is read afterwards."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import anyio
import msgspec
import pytest

from procflow import record
from procflow_export import Engine, Exporter, InProcessEngine, ProcessEngine, Progress, RunEvent, read_config
from procflow_export.model.codes import Code
from procflow_export.model.errors import PlatformError, WorkerError
from procflow_export.model.events import UnitEvent, UnitStarted, UnitWarning
from procflow_export.model.notes import ExportEvent
from procflow_export.model.plan import UnitResult, WorkUnit
from procflow_export.pipeline.recorded import export_events, read_run
from procflow_export.ui.board import Board
from procflow_export.ui.summary import render_summary
from tests.core.record.runs import require_balance
from tests.export.pipeline.runs import NO_DELAYS, Shop, run
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


def folder_of(root: Path) -> Path:
    """Return the directory of the one run below ``root``."""
    [folder] = root.iterdir()
    return folder


def said_in(folder: Path) -> list[ExportEvent]:
    return list(export_events(line.event for line in record.read_events(folder)))


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
    ran = await run(shop.config(*EXPORTS), engine=engine(), record=shop.root / "runs")
    folder = folder_of(shop.root / "runs")

    said = [plain(event) for event in read_run(folder)]
    told = [plain(event) for event in ran.events]
    assert [event for event in said if not isinstance(event, Progress)] == [
        event for event in told if not isinstance(event, Progress)
    ]
    assert [event for event in said if isinstance(event, Progress) and event not in told] == []


@pytest.mark.parametrize("engine", ENGINES, ids=["in-process", "processes"])
async def test_cards_and_summary_are_views_of_the_record(shop: Shop, engine: Callable[[], Engine]) -> None:
    """E-66: what was shown when the run ended can be shown again from its record."""
    ran = await run(shop.config(*EXPORTS), engine=engine(), record=shop.root / "runs")
    folder = folder_of(shop.root / "runs")

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
    await run(shop.config(*EXPORTS), engine=InProcessEngine(max_units=2), record=shop.root / "runs")
    folder = folder_of(shop.root / "runs")

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


async def test_every_worker_is_a_call_of_the_record(shop: Shop) -> None:
    """E-66: one call per child; the record says which of them took up which chunk, and how each ended."""
    await run(shop.config(*EXPORTS[:2]), engine=ProcessEngine(max_units=2), record=shop.root / "runs")
    folder = folder_of(shop.root / "runs")

    begun = [event for event in said_in(folder) if isinstance(event, UnitStarted)]
    assert sorted((event.export, event.chunk) for event in begun) == [("big", 0), ("big", 1), ("big", 2), ("holes", 0)]
    view = record.load(folder)
    calls = {call.pid: call for call in view.calls.values()}
    assert {event.pid for event in begun} <= set(calls)
    assert os.getpid() not in calls
    assert {call.job_id for call in calls.values()} == {"main"}
    assert {(call.outcome, call.exit_code) for call in calls.values()} == {("exited", 0)}
    assert not list(folder.rglob("*.log"))


async def test_the_record_of_a_cancelled_run_balances(shop: Shop) -> None:
    """RR-15: every job that was begun is finished, one that was not is skipped, and the run was cancelled."""
    slow = [{"name": f"slow{n}", "table": "big", "tuning": {"batch_size": 10, "throttle_ms": 5}} for n in range(6)]

    def cancel(exporter: Exporter, event: RunEvent) -> None:
        if isinstance(event, Progress) and event.row_count:
            exporter.cancel("enough", signal="SIGTERM")

    with anyio.fail_after(60):
        await run(shop.config(*slow), engine=InProcessEngine(max_units=1), record=shop.root / "runs", on_event=cancel)

    view = record.load(folder_of(shop.root / "runs"))
    assert {job.outcome for job in view.jobs.values()} <= {"cancelled", "skipped"}
    assert len(view.jobs) == 6
    assert not any(job.synthesized for job in view.jobs.values())
    assert (view.run.outcome, view.run.cancel_reason, view.run.cancel_signal) == ("cancelled", "enough", "SIGTERM")


@pytest.mark.parametrize("engine", ENGINES, ids=["in-process", "processes"])
async def test_leaving_in_the_middle_ends_the_record(shop: Shop, engine: Callable[[], Engine]) -> None:
    """RR-15: a run that is left by a cancellation has an end in its record, and so has everything in it."""
    slow = {"name": "slow", "table": "big", "tuning": {"batch_size": 10, "throttle_ms": 5}}
    with anyio.fail_after(60), anyio.CancelScope() as scope:
        async with Exporter(shop.config(slow), engine=engine(), record=shop.root / "runs") as exporter:
            async for event in exporter.run():
                if isinstance(event, Progress) and event.row_count:
                    scope.cancel()

    assert exporter.record_directory == folder_of(shop.root / "runs")
    view = record.load(exporter.record_directory)
    assert view.state is record.RecordState.FINISHED
    assert view.run.outcome == "cancelled"
    assert {job.job_id: job.outcome for job in view.jobs.values() if job.job_id != "main"} == {"slow": "cancelled"}
    assert not any(row.synthesized for row in (*view.jobs.values(), *view.calls.values()))


async def test_leaving_after_any_event_ends_the_record(shop: Shop) -> None:
    """RR-15: after whatever event the run is left, its record is whole and balances."""
    exports = [{"name": "holes", "table": "holes"}, {"name": "missing", "table": "nowhere"}]
    ran = await run(shop.config(*exports))
    for count in range(len(ran.events)):
        root = shop.root / f"runs-{count}"
        with anyio.CancelScope() as scope:
            async with Exporter(shop.config(*exports), record=root, policy=NO_DELAYS) as exporter:
                seen = 0
                async for _ in exporter.run():
                    if seen == count:
                        scope.cancel()
                    seen += 1

        require_balance(folder_of(root))


async def test_a_host_records_an_export_beside_its_own_jobs(shop: Shop) -> None:
    """E-66: in a run that the host records, exports are further jobs; the run is the host's to end."""
    async with record.open_run("nightly", record=shop.root / "runs", logs=False) as nightly:
        async with nightly.job("prepare"):
            pass
        for _ in range(2):
            await run(shop.config(*EXPORTS[1:2]), engine=ProcessEngine(max_units=1), record=nightly)
        nightly.note("host.word", "still open")

    view = record.load(folder_of(shop.root / "runs"))
    jobs = [(job.job_id, job.attempt, job.outcome) for job in view.jobs.values()]
    assert ("prepare", 1, "succeeded") in jobs
    assert ("holes", 1, "succeeded") in jobs
    assert ("holes", 2, "succeeded") in jobs
    assert view.run.outcome == "succeeded"
    assert len(view.calls) == 2
    assert {note.attempt for note in view.notes if note.key == "export.part"} == {1, 2}


async def test_an_export_may_have_any_name(shop: Shop) -> None:
    """E-66: the job of calls outside of jobs is called main; an export of that name has a job of its own."""
    ran = await run(
        shop.config({"name": "main", "table": "holes"}), engine=ProcessEngine(max_units=1), record=shop.root / "runs"
    )
    folder = folder_of(shop.root / "runs")

    assert {job.job_id for job in record.load(folder).jobs.values()} == {"main", "export main"}
    assert [plain_of(event) for event in read_run(folder)][-1] == plain(ran.events[-1])


async def test_a_record_that_cannot_be_written_is_told_before_anything_runs(shop: Shop) -> None:
    """E-61: a directory that cannot be made is a mistake to fix; nothing is exported without its record."""
    (shop.root / "runs").write_text("a file")

    with pytest.raises(PlatformError, match="no record can be written"):
        await run(shop.config(*EXPORTS[:1]), record=shop.root / "runs")
    assert not shop.out.exists()


CANARY = "c4n4ry/?#@:%&= ä"


def forms_of(password: str) -> tuple[str, ...]:
    """Return the forms in which a password is looked for; one of less than 8 bytes only as it is written or in URLs."""
    forms = dict.fromkeys((password, quote(password, safe=""), quote_plus(password)))
    if password == CANARY:
        forms |= dict.fromkeys((json.dumps(password)[1:-1], base64.b64encode(password.encode()).decode()))
    return tuple(forms)


class LeakyEngine(InProcessEngine):
    """An engine whose every word holds the password, as only a bug or a driver would have it."""

    def __init__(self, forms: tuple[str, ...]) -> None:
        super().__init__()
        self._forms = forms

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        for form in self._forms:
            report(UnitWarning(export=unit.export, chunk=unit.index, code="X", message=f"cannot log in with {form}"))
        error = WorkerError(Code.SOURCE_DENIED, f"died of {self._forms[0]}", stderr_tail="\n".join(self._forms))
        error.add_note(f"at mysql://me:{self._forms[1 % len(self._forms)]}@db.example/shop")
        raise error


def written_below(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("password", [CANARY, "hunter2"])
async def test_no_form_of_a_password_is_in_a_record(shop: Shop, password: str) -> None:
    """RR-76, E-2: what workers and failures say of a password is taken out of the record, whatever its form."""
    forms = forms_of(password)
    url = f"mysql://me:{quote(password, safe='')}@127.0.0.1:1/shop"
    common = {"mode": "full", "format": "csv"}
    loaded = read_config(
        {
            "sources": {"lite": {"type": "sqlite", "path": "shop.db"}, "my": {"type": "mysql", "url": url}},
            "destination": {"type": "local", "path": "out"},
            "exports": [
                {"name": "holes", "table": "holes", "source": "lite"} | common,
                {"name": "far", "table": "t", "source": "my"} | common,
            ],
        },
        base_dir=shop.root,
    )
    await run(loaded, engine=LeakyEngine(forms), record=shop.root / "runs")

    text = written_below(shop.root / "runs")
    assert text.count("cannot log in with") == len(forms)
    assert [form for form in forms if form in text] == []


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
    with anyio.fail_after(60):
        ran = await run(loaded, engine=engine(), record=tmp_path / "runs")
    mariadb_execute(mariadb_database, f"DROP USER '{user}'@'%'")

    assert {one.export: one.failure and one.failure.code.value for one in ran.result.exports} == {
        "right": None,
        "wrong": "SOURCE_AUTH_FAILED",
        "nowhere": "SOURCE_UNREACHABLE",
    }
    text = written_below(tmp_path / "runs")
    assert "SOURCE_AUTH_FAILED" in text
    assert [form for form in (*forms_of(CANARY), "c4n4ry") if form in text] == []
