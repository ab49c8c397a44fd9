"""What went wrong in another export tool, and cannot here: lessons 21 to 32, where no test elsewhere shows them.

The list, with the tests elsewhere, is docs/explanation/lessons.md.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procflow_export import (
    Code,
    DestinationError,
    Engine,
    ExitStatus,
    Finished,
    InProcessEngine,
    ProcessEngine,
    Retry,
    RunFinished,
    Status,
    read_config,
)
from procflow_export.destinations.local import LocalDestination
from procflow_export.model.manifest import MANIFEST_KEY
from tests.export.pipeline.runs import Shop, run
from tests.export.pipeline.test_scheduler import CHUNKED, ScriptedEngine, failing, lost
from tools.soak.crashes.databases import Database, MariaDatabase, PostgresDatabase

SOURCES = Path(__file__).resolve().parents[3] / "src" / "procflow_export"
LESSONS = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "lessons.md"
ENGINES: dict[str, Callable[[], Engine]] = {
    "in-process": lambda: InProcessEngine(max_units=2),
    "processes": lambda: ProcessEngine(max_units=2),
}


def syntax_trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        yield path.relative_to(SOURCES).as_posix(), ast.parse(path.read_text("utf-8"))


def test_every_export_is_published_in_one_place() -> None:
    """E-31, E-42: W3 to W5 are written once: whatever the engine and the mode, there is one caller (lesson 21)."""
    importers = [
        name
        for name, tree in syntax_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("procflow_export.destinations")
        and any(alias.name == "publish" for alias in node.names)
    ]
    assert [name for name in importers if not name.startswith("destinations/")] == ["pipeline/finalise.py"]
    callers = [
        name
        for name, tree in syntax_trees()
        if any(
            isinstance(node, ast.ImportFrom) and any(a.name == "finalise" for a in node.names)
            for node in ast.walk(tree)
        )
    ]
    assert callers == ["pipeline/scheduler.py"]


def test_asserts_only_tell_the_type_checker_what_is_known() -> None:
    """E-42: `python -O` drops assertions, so none checks data: each says that something is there, or of a type (lesson 22)."""
    others = [
        f"{name}:{node.lineno}"
        for name, tree in syntax_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and not is_narrowing(node.test)
    ]
    assert others == []


def is_narrowing(test: ast.expr) -> bool:
    match test:
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
        case ast.BoolOp(values=values):
            return all(is_narrowing(value) for value in values)
    return False


UNDER_O = """
import pathlib, sys
import msgspec
assert False, "this line is not there"
from procflow_export.destinations import publish
from procflow_export.destinations.local import LocalDestination
from procflow_export.model.errors import ExportError
from tests.export.destinations.publishing import manifest_of, write_parts

destination = LocalDestination(pathlib.Path(sys.argv[1]))
parts = write_parts(destination, "run-1")
good = manifest_of("run-1", parts)
replaced = msgspec.structs.replace
bad = {
    "a row too many": replaced(good, row_count=good.row_count + 1),
    "a part twice": replaced(good, parts=(*parts, parts[0]), row_count=good.row_count + 100),
    "a part that is not there": replaced(good, parts=(*parts[1:], replaced(parts[0], key="nowhere.csv"))),
    "a part of another size": replaced(good, parts=(*parts[1:], replaced(parts[0], size_bytes=1))),
}
for name, manifest in bad.items():
    try:
        publish(destination, manifest)
    except ExportError as exc:
        print(name, exc.code.value, sep=": ")
print(destination.get("manifest.json"))
"""


def test_what_protects_data_is_no_assertion(tmp_path: Path) -> None:
    """E-42: W3: a set that contradicts itself is refused under `python -O` too (lesson 22)."""
    done = subprocess.run(
        [sys.executable, "-O", "-c", UNDER_O, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )

    assert done.stdout.splitlines() == [
        "a row too many: ROW_COUNT_MISMATCH",
        "a part twice: ROW_COUNT_MISMATCH",
        "a part that is not there: DESTINATION_MISMATCH",
        "a part of another size: DESTINATION_MISMATCH",
        "None",
    ]


@pytest.mark.anyio
async def test_without_its_manifest_a_run_has_failed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-42: W4: every part is stored, the manifest is not: failure, exit status of its class, nothing published (lesson 23)."""

    def refuse(name: str) -> None:
        original = getattr(LocalDestination, name)

        def refusing(self: LocalDestination, key: str, *args: Any, **options: Any) -> Any:
            if key == MANIFEST_KEY:
                raise DestinationError(Code.DESTINATION_FULL, "no space left")
            return original(self, key, *args, **options)

        monkeypatch.setattr(LocalDestination, name, refusing)

    for name in ("put", "create", "swap"):
        if hasattr(LocalDestination, name):
            refuse(name)

    ran = await run(shop.config(CHUNKED))

    (verdict,) = ran.of(Finished)
    assert (verdict.status, verdict.manifest) == (Status.FAILED, None)
    assert verdict.failure is not None
    assert verdict.failure.code is Code.DESTINATION_FULL
    assert ran.result.exit_status is ExitStatus.FIX
    assert not (shop.out / "big" / "manifest.json").exists()
    assert not (shop.out / "big" / "_SUCCESS").exists()


@pytest.mark.anyio
async def test_a_retry_reads_one_chunk_again_and_no_stored_one(shop: Shop) -> None:
    """E-31, E-43: after parts were stored, a failure repeats its own chunk; each row is published once (lesson 26)."""
    engine = ScriptedEngine(failing(2, lost, index=5))

    ran = await run(shop.config(CHUNKED | {"parallel": 1}), engine=engine)

    taken = [index for _, index, _ in engine.taken]
    assert sorted(taken) == [0, 1, 2, 3, 4, 5, 5, 5]
    assert len([name for name in shop.files() if name.endswith(".parquet")]) == 6
    assert ran.result.exports[0].row_count == shop.rows


@pytest.fixture(params=["postgres", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    name = f"lessons_{os.getpid()}_{time.monotonic_ns()}"
    found: Database
    if request.param == "postgres":
        found = PostgresDatabase(request.getfixturevalue("postgres_url"), name)
    else:
        found = MariaDatabase(request.getfixturevalue("mariadb_url"), name)
    yield found
    found.drop()


@pytest.mark.anyio
async def test_a_statement_that_is_too_slow_once_is_not_sent_again(database: Database, tmp_path: Path) -> None:
    """E-31: the server's statement limit is permanent: one attempt, a remedy, the exit status of "fix it" (lesson 27)."""
    sleep = "pg_sleep(60)::text" if database.kind == "postgres" else "sleep(60)"
    config = {
        "source": {**database.source, "tuning": {"statement_timeout_s": 1, "max_retries": 5}},
        "destination": {"type": "local", "path": "out"},
        "exports": [
            {"name": "slow", "mode": "full", "format": "parquet", "query": f"select 1 as id, {sleep} as nothing"}
        ],
    }

    ran = await run(read_config(config, base_dir=tmp_path))

    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.code is Code.SOURCE_STATEMENT_TIMEOUT
    assert (verdict.retry_count, ran.of(Retry)) == (0, [])
    assert ran.result.exit_status is ExitStatus.FIX


@pytest.mark.anyio
@pytest.mark.parametrize("engine", list(ENGINES))
async def test_the_class_of_a_failure_is_that_of_the_worker(shop: Shop, engine: str) -> None:
    """E-31, E-61: a value that a worker refuses ends the run with "refused on purpose", by every engine (lesson 31)."""
    export = {"name": "big", "table": "big", "columns": {"name": "int64"}}

    ran = await run(shop.config(export), engine=ENGINES[engine]())

    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.code is Code.VALUE_REFUSED
    assert ran.result.exit_status is ExitStatus.REFUSED


@pytest.mark.anyio
async def test_retries_are_counted_once(shop: Shop) -> None:
    """E-31, E-33: of two exports, each verdict has its own retries, and the run has their sum (lesson 32)."""
    engine = ScriptedEngine(failing(2, lost, export="big"))

    ran = await run(shop.config(CHUNKED, {"name": "holes", "table": "holes"}), engine=engine)

    assert {verdict.export: verdict.retry_count for verdict in ran.of(Finished)} == {"big": 2, "holes": 0}
    assert len(ran.of(Retry)) == 2
    (finished,) = ran.of(RunFinished)
    assert finished.status is Status.SUCCESS


@pytest.mark.anyio
async def test_the_summary_has_the_largest_memory_of_each_worker(shop: Shop) -> None:
    """E-31: an export's peak is that of the worker that did its units, which is a process of its own."""
    ran = await run(shop.config(CHUNKED), engine=ProcessEngine(max_units=1))

    (verdict,) = ran.of(Finished)
    assert verdict.peak_rss_bytes > 20 << 20
    (finished,) = ran.of(RunFinished)
    assert finished.peak_rss_bytes >= verdict.peak_rss_bytes


def test_the_page_names_tests_that_exist() -> None:
    """E-31, E-42: each lesson that the page lists has tests, and they are where it says."""
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", LESSONS.read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(21, 33))
    root = LESSONS.parents[2]
    for number, tests in rows:
        named = re.findall(r"`(tests/[^`:]+)::(\w+)`", tests)
        assert named, f"lesson {number} has no test"
        for file, test in named:
            assert f"def {test}(" in (root / file).read_text("utf-8"), f"lesson {number}: {file} has no {test}"
