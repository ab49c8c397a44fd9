"""Work units over a small SQLite file, and how their files are checked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.plan import Everything, KeyRange, Query, Relation, Selection, TableChunk, WorkUnit
from procflow_export.model.settings import (
    Format,
    FormatOptions,
    SourceConfig,
    SourceType,
    Tuning,
)
from procflow_export.model.types import encode_columns
from procflow_export.sources import open_source

RUN_ID = "0190a0b0-0000-7000-8000-000000000000"
ROWS = 5_000


def make_database(path: Path, rows: int = ROWS) -> Path:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, half REAL)")
        database.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO numbers SELECT i, 'name ' || i, i / 2.0 FROM n",
            (rows,),
        )
    return path


class Units:
    """Makes units that read the table ``numbers`` and write below ``root``."""

    def __init__(self, database: Path, root: Path, columns: bytes) -> None:
        self.database = database
        self.root = root
        self.columns = columns

    @classmethod
    async def over(cls, folder: Path, rows: int = ROWS) -> Units:
        database = make_database(folder / "numbers.sqlite", rows)
        source = SourceConfig(type=SourceType.SQLITE, path=str(database))
        async with open_source(source, environ={}) as opened:
            profile = await opened.profile(Relation(table="numbers"))
        root = folder / "out"
        return cls(database, root, encode_columns(profile.columns))

    def unit(self, index: int = 0, **changes: Any) -> WorkUnit:
        unit = WorkUnit(
            run_id=RUN_ID,
            export="numbers",
            index=index,
            selection=Relation(table="numbers"),
            chunk=Everything(),
            columns=self.columns,
            source=SourceConfig(type=SourceType.SQLITE, path=str(self.database)),
            format=FormatOptions(format=Format.PARQUET),
            destination=DestinationConfig(type=DestinationType.LOCAL, path=str(self.root)),
            part_stem=f"numbers-c{index:05d}",
            batch_rows=1_000,
        )
        return msgspec.structs.replace(unit, **changes)

    def chunk(self, index: int, rows: int) -> WorkUnit:
        return self.unit(index, chunk=KeyRange.of_integers("id", 1 + index * rows, 1 + (index + 1) * rows))

    def slow(self, index: int = 0) -> WorkUnit:
        """A unit that takes many seconds, one small batch after the other."""
        return self.unit(
            index,
            batch_rows=100,
            source=SourceConfig(
                type=SourceType.SQLITE, path=str(self.database), tuning=Tuning(batch_size=100, throttle_ms=300)
            ),
        )

    def missing(self, index: int = 0) -> WorkUnit:
        return self.unit(index, selection=Relation(table="nowhere"))

    def files(self) -> list[str]:
        """Everything below the destination, hidden files included."""
        return (
            sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
            if self.root.exists()
            else []
        )

    def row_count(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.root.glob("*.parquet"))


__all__ = ("ROWS", "RUN_ID", "Query", "Selection", "TableChunk", "Units", "make_database")
