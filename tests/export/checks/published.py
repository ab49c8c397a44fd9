"""Published sets of every mode, and what can happen to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from procflow_export.checks.validation import Validation, ValidationDepth
from procflow_export.destinations.local import LocalDestination
from procflow_export.model.manifest import Manifest, decode_manifest, encode_manifest, run_manifest_key
from procflow_export.model.plan import PartRecord
from procflow_export.pipeline.checking import validate
from procflow_export.pipeline.reconciling import Reconciliation, reconcile
from tests.export.modes.sets import Outcome

ROWS = 300

MODES: dict[str, dict[str, Any]] = {
    "full": {"mode": "full"},
    "ranges": {"mode": "chunked", "chunk_size": 100},
    "slices": {"mode": "chunked", "chunk_by_key": ["tenant", "id"], "chunk_size": 90},
    "days": {"mode": "chunked", "chunk_column": "at", "chunk_by_days": 1},
    "ranges of a query": {
        "mode": "chunked", "table": None, "query": "select * from t", "chunk_column": "id", "chunk_count": 3,
    },
    "incremental": {"mode": "incremental", "cursor_column": "at"},
    "behind a key": {"mode": "chunked", "chunk_by_key": "id", "keyset_incremental": True, "chunk_size": 100},
    "window": {"mode": "time_window", "time_column": "at", "days_window": 2},
}  # fmt: skip
AT = {"postgres": "timestamp(6)", "mysql": "datetime(6)", "sqlite": "timestamp"}
MOMENT = {
    "postgres": "timestamp '2026-03-08 06:00:00' + n * interval '10 minutes'",
    "mysql": "timestamp '2026-03-08 06:00:00' + interval n * 10 minute",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', '2026-03-08 06:00:00', (n * 10) || ' minutes')",
}


@dataclass(slots=True)
class Sets(Outcome):
    """A table ``t`` of 300 rows over two days and two hours, and its exports."""

    def fill(self) -> None:
        kind, integer = self.database.kind, self.database.integer
        text = {"mysql": "concat('name ', n)"}.get(kind, "'name ' || n")
        self.database.execute(
            f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY, tenant varchar(9) NOT NULL, name varchar(20), cents {integer},"
            f" at {AT[kind]}, UNIQUE (tenant, id))",
            f"INSERT INTO t SELECT n, CASE WHEN n % 3 = 0 THEN 'b' ELSE 'a' END, CASE WHEN n % 5 = 0 THEN NULL ELSE {text} END,"
            f" n * 7, {MOMENT[kind]} FROM ({self.database.numbers(ROWS)}) AS g",
            "CREATE INDEX t_at ON t (at)",
        )

    async def publish(self, mode: str, **more: Any) -> None:
        await self.run(self.export(mode, **more))

    def export(self, mode: str, **more: Any) -> dict[str, Any]:
        return {"name": "t", "table": "t", "parallel": 2} | MODES[mode] | more

    async def validated(self, mode: str, depth: ValidationDepth, **more: Any) -> Validation:
        (result,) = await validate(self.config(self.export(mode, **more)), depth=depth)
        assert result.failure is None
        return result

    async def reconciled(self, mode: str, **more: Any) -> Reconciliation:
        (result,) = await reconcile(self.config(self.export(mode, **more)))
        assert result.failure is None, result.failure
        return result

    @property
    def destination(self) -> LocalDestination:
        return LocalDestination(self.directory())

    def part(self, number: int = 0) -> PartRecord:
        """A part with rows."""
        return [part for part in self.manifest().parts if part.row_count][number]

    def rewrite(self, change: Callable[[Manifest], Manifest], *, of_run: bool = True) -> None:
        """Change the manifests, and give them a marker that fits: only what they say of the rest can betray that."""
        for key in ("manifest.json", *([run_manifest_key(self.manifest().run_id)] if of_run else [])):
            data = encode_manifest(change(decode_manifest(self.destination.get(key) or b"")))
            self.destination.put(key, data)
            if key == "manifest.json":
                self.destination.put("_SUCCESS", f"sha256:{hashlib.sha256(data).hexdigest()}\n".encode())

    def forge(self, change: Callable[[pa.Table], pa.Table], number: int = 0) -> None:
        """Change the rows of a part, and the size and digest that the manifests have of it."""
        part = self.part(number)
        path = self.directory() / part.key
        pq.write_table(change(pq.read_table(path)), path)
        data = path.read_bytes()
        facts = {"size_bytes": len(data), "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}"}

        def forged(manifest: Manifest) -> Manifest:
            parts = [msgspec.structs.replace(one, **facts) if one.key == part.key else one for one in manifest.parts]
            return msgspec.structs.replace(manifest, parts=tuple(parts))

        self.rewrite(forged)


def flip_a_byte(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replaced(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    """Return a table with another value in one place."""
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))


def columns_swapped(table: pa.Table, one: str, other: str) -> pa.Table:
    """Return a table in which two columns of one type have each other's values."""
    first, second = table.schema.get_field_index(one), table.schema.get_field_index(other)
    swapped = table.set_column(first, table.schema.field(one), table[other])
    return swapped.set_column(second, table.schema.field(other), table[one])
