"""One state for all chunks, whatever moves under a running export, with every source and engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procflow_export import (
    ChunkFinished,
    ExitStatus,
    Exporter,
    InProcessEngine,
    ProcessEngine,
    RunEvent,
    Warned,
    read_config,
)
from procflow_export.config.structs import LoadedConfig
from procflow_export.engines.port import Engine
from tests.export.pipeline.moving import KINDS, MovingTable
from tests.export.pipeline.runs import Ran, run

pytestmark = pytest.mark.anyio

ENGINES: dict[str, Callable[[], Engine]] = {
    "in-process": lambda: InProcessEngine(max_units=3),
    "processes": lambda: ProcessEngine(max_units=3),
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> MovingTable:
    place = {"postgres": "postgres_database", "mysql": "mariadb_database"}.get(request.param)
    where = str(tmp_path / "moving.db") if place is None else request.getfixturevalue(place)
    return MovingTable(request.param, where)


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


def config(table: MovingTable, root: Path, **export: Any) -> LoadedConfig:
    return read_config(
        {
            "source": table.source,
            "destination": {"type": "local", "path": "out"},
            "exports": [
                {
                    "name": "accounts",
                    "table": "accounts",
                    "mode": "chunked",
                    "chunk_count": 8,
                    "parallel": 2,
                    "format": "parquet",
                }
                | export
            ],
        },
        base_dir=root,
    )


def manifest(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "out/accounts/manifest.json").read_text())
    return found


def files(root: Path) -> str:
    return f"{root}/out/accounts/*.parquet"


def succeeded(ran: Ran) -> bool:
    return ran.result.exit_status is ExitStatus.OK


async def test_parts_show_one_state_while_rows_move(table: MovingTable, engine: Engine, tmp_path: Path) -> None:
    """E-11, E-36: rows move, change, appear and vanish under a running export; the published set is one state, exactly."""

    def wait_for_the_writer(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)

    with table.moving():
        ran = await run(config(table, tmp_path), engine=engine, on_event=wait_for_the_writer)

    assert succeeded(ran), ran.result
    assert len(ran.of(ChunkFinished)) == 8
    assert not ran.of(Warned)
    assert manifest(tmp_path)["consistency"] == "snapshot"
    stamp, rows = table.published(files(tmp_path))
    assert rows == sorted(table.state_after(stamp).items())
    assert stamp < table.count - 20, "the writer went on while chunks were read"


async def test_chunks_may_differ_in_time_where_that_is_asked_for(table: MovingTable, tmp_path: Path) -> None:
    """E-11: with `consistency: chunk` nothing is held, and the manifest says that parts differ in time."""
    ran = await run(config(table, tmp_path, consistency="chunk"))

    assert succeeded(ran)
    assert manifest(tmp_path)["consistency"] == "chunk"
    assert table.is_one_state(files(tmp_path)), "nobody wrote"
