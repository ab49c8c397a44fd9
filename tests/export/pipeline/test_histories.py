"""Random histories of one export: rows, runs, crashes, resumed runs, clean-ups, resets, several states."""

from __future__ import annotations

import os
import random
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
import pytest

from procflow_export import Exporter, Finished, Status, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.destinations.crash import CRASH_POINTS
from procflow_export.model.errors import MisuseError
from procflow_export.model.manifest import Manifest, decode_manifest
from procflow_export.pipeline.cursor_state import cursor_state, reset_cursor
from procflow_export.pipeline.prepare import collect_garbage
from procflow_export.planning.names import short_run_id
from procflow_export.state import open_state
from tests.export.pipeline.dying import dying_at
from tests.export.pipeline.runs import NO_DELAYS

MODES: dict[str, dict[str, Any]] = {
    "full": {"mode": "full"},
    "chunked": {
        "mode": "chunked", "chunk_column": "k", "chunk_size": 20, "consistency": "chunk", "parallel": 2,
    },
    "incremental": {"mode": "incremental", "cursor_column": "id"},
    "by key": {
        "mode": "chunked", "chunk_by_key": "id", "chunk_size": 20, "keyset_incremental": True, "consistency": "chunk",
    },
}  # fmt: skip
STATES = ("one", "one", "one", "two")
STEPS = ("fill", "fill", "change", "run", "run", "resume", "resume", "crash", "crash", "crash", "collect", "reset")
SEEDS = range(int(os.environ.get("PROCFLOW_HISTORIES", "4")))


@dataclass(slots=True)
class History:
    """One export, what happened to it, and what must be true of it.

    Attributes:
        root: Where everything is.
        mode: A key of ``MODES``.
        rng: Decides what happens.
        told: What happened, for the message of a failure.
        published: Every set that readers may have seen and nobody has removed on request.
        crashed: Short ids of runs that died, by state.
        began: Rows and versions when the last unfinished work of a state was begun, by state.
    """

    root: Path
    mode: str
    rng: random.Random
    told: list[str] = field(default_factory=list)
    count: int = 0
    version: int = 0
    published: dict[str, Manifest] = field(default_factory=dict)
    crashed: dict[str, set[str]] = field(default_factory=lambda: {"one": set(), "two": set()})
    began: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.root / "out" / "t"

    @property
    def is_cumulative(self) -> bool:
        return self.mode in ("incremental", "by key")

    def config(self) -> LoadedConfig:
        export = {"name": "t", "table": "t", "format": "parquet"} | MODES[self.mode]
        return read_config(
            {
                "source": {"type": "sqlite", "path": "source.db"},
                "destination": {"type": "local", "path": "out"},
                "exports": [export],
            },
            base_dir=self.root,
        )

    def execute(self, statement: str, rows: list[tuple[object, ...]] | None = None) -> None:
        with closing(sqlite3.connect(self.root / "source.db")) as connection, connection:
            connection.executemany(statement, rows) if rows is not None else connection.execute(statement)

    # ---- what happens

    def begin(self) -> None:
        self.execute("CREATE TABLE t (id integer PRIMARY KEY NOT NULL, k integer, version integer)")
        self.fill()

    def step(self) -> None:
        name = self.rng.choice(STEPS)
        getattr(self, name)()
        self.look()

    def fill(self) -> None:
        count = self.rng.choice((1, 30, 70))
        # Rows without a key of their own are in a chunk of their own.
        ids = range(self.count, self.count + count)
        self.execute("INSERT INTO t VALUES (?, ?, ?)", [(n, None if n % 7 == 3 else n, self.version) for n in ids])
        self.count += count
        self.told.append(f"fill {count}")

    def change(self) -> None:
        self.version += 1
        self.execute(f"UPDATE t SET version = {self.version} WHERE id % 3 = 0")
        self.told.append("change")

    def run(self) -> None:
        self._run(self.rng.choice(STATES), is_resumed=False, crash_at=None)

    def resume(self) -> None:
        self._run(self.rng.choice(STATES), is_resumed=True, crash_at=None)

    def crash(self) -> None:
        at = f"{self.rng.choice(CRASH_POINTS)}:{self.rng.choice((1, 1, 2, 3))}"
        self._run(self.rng.choice(STATES), is_resumed=self.rng.random() < 0.5, crash_at=at)

    def collect(self) -> None:
        state = self.rng.choice(STATES)
        self.told.append(f"collect with {state}")

        async def act() -> None:
            async with Exporter(self.config()) as exporter:
                (target,) = exporter.targets
            with open_state(self.root / state) as store:
                await collect_garbage(target, store, anyio.CapacityLimiter(1), older_than=timedelta(0), removes=True)

        anyio.run(act)
        now = self.manifest()
        self.published = {} if now is None else {now.run_id: now}

    def reset(self) -> None:
        state = self.rng.choice(STATES)
        self.told.append(f"reset with {state}")

        async def act() -> None:
            async with Exporter(self.config()) as exporter:
                (target,) = exporter.targets
            with open_state(self.root / state) as store:
                await reset_cursor(
                    await cursor_state(target, {}, anyio.CapacityLimiter(1)), store, anyio.CapacityLimiter(1)
                )

        try:
            anyio.run(act)
        except MisuseError:
            self.told.append("nothing to reset")

    def _run(self, state: str, *, is_resumed: bool, crash_at: str | None) -> None:
        self.told.append(f"{'resume' if is_resumed else 'run'} with {state}, crash at {crash_at}")
        begins = self.began.get(state) if is_resumed else None
        begins = begins or (self.count, self.version)
        verdicts: list[Finished] = []
        ids: list[str] = []

        async def act() -> None:
            async with Exporter(
                self.config(), state=self.root / state, resume=is_resumed, policy=NO_DELAYS
            ) as exporter:
                ids.append(exporter.run_id)
                async for event in exporter.run():
                    if isinstance(event, Finished):
                        verdicts.append(event)

        with dying_at(crash_at):
            anyio.run(act)
        self.look()
        if not verdicts or (crash_at is not None and not self._is_whole(verdicts)):
            self.told.append("died")
            self.crashed[state].add(short_run_id(ids[0]))
            self.began[state] = begins
            return
        (verdict,) = verdicts
        assert verdict.status in (Status.SUCCESS, Status.SKIPPED), verdict.failure
        self.told.append(f"{verdict.status.value} {verdict.skip_reason or ''}")
        self.began.pop(state, None)
        self.check(state, begins)

    def _is_whole(self, verdicts: list[Finished]) -> bool:
        return verdicts[0].status in (Status.SUCCESS, Status.SKIPPED)

    # ---- what must be true

    def manifest(self) -> Manifest | None:
        path = self.out / "manifest.json"
        return decode_manifest(path.read_bytes()) if path.exists() else None

    def rows(self, manifest: Manifest) -> list[tuple[int, int]]:
        rows: list[tuple[Any, Any]] = []
        for part in manifest.parts:
            table = pq.read_table(self.out / part.key)
            assert table.num_rows == part.row_count
            rows += zip(table["id"].to_pylist(), table["version"].to_pylist(), strict=True)
        return sorted(rows)

    def look(self) -> None:
        """At every moment: whole sets, for readers of the newest manifest and of those before."""
        if (now := self.manifest()) is not None:
            self.published[now.run_id] = now
        for manifest in self.published.values():
            missing = [part.key for part in manifest.parts if not (self.out / part.key).exists()]
            assert not missing, f"of what run {manifest.run_id} published, {missing} are gone"
            ids = [key for key, _ in self.rows(manifest)]
            assert len(set(ids)) == len(ids), "a row is there twice"

    def check(self, state: str, begins: tuple[int, int]) -> None:
        """After a run that ended well: the rows that the mode promises, and nothing of a dead run of this state."""
        manifest = self.manifest()
        assert manifest is not None
        rows = self.rows(manifest)
        assert [key for key, _ in rows] == list(range(len(rows))), "rows are missing"
        count, version = begins
        assert len(rows) >= count, f"{len(rows)} rows are published, there were {count}"
        if not self.is_cumulative:
            assert all(found >= version for key, found in rows if key % 3 == 0 and key < count)
        names = {path.name for path in self.out.iterdir()}
        manifests = [decode_manifest(path.read_bytes()) for path in self.out.glob("manifest*.json")]
        named = {part.key for each in manifests for part in each.parts}
        others = self.crashed[{"one": "two", "two": "one"}[state]]
        unnamed = {name for name in names - named if name.endswith(".parquet")}
        ours = {name for name in unnamed if re.fullmatch(r"t-(.*)-c.*", name)[1] not in others}  # type: ignore[index]
        assert not ours, f"{ours} are there, and no manifest names them"
        assert (self.out / "_SUCCESS").exists()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_every_published_set_is_whole(mode: str, seed: int, tmp_path: Path) -> None:
    """E-43: readers of every manifest that was ever published get whole sets, each row once, until somebody has them removed."""
    history = History(tmp_path, mode, random.Random(f"{mode} {seed}"))
    history.begin()
    try:
        for _ in range(14):
            history.step()
    except BaseException as exc:
        exc.add_note("\n".join(history.told))
        raise
