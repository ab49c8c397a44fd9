"""Rows of the fold as rows of a table, and back.

Owns which field is which column, and how a value stands in it: numbers and texts as they are, everything else as JSON.  Must not
know events, nor when rows are written.
"""

from __future__ import annotations

import sqlite3
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar, Union, get_args, get_origin

import msgspec

from procflow.record.fold.rows import CallRow, JobRow, NoteRow, RunRow

R = TypeVar("R", bound=msgspec.Struct)
Value: TypeAlias = str | int | None
"""What a column holds."""

_MOST_KEYS: Final = 1000
"""Of one statement; SQLite takes some 30,000 values."""

_encode = msgspec.json.Encoder().encode


class Table(Generic[R]):
    """One table, whose rows are named by the id of their run and the ``key`` of theirs."""

    def __init__(self, name: str, row_type: type[R], *, key: Sequence[str], renamed: Mapping[str, str] | None = None):
        """``renamed`` has the columns that are not called like their fields."""
        self.name: Final = name
        self._row_type: Final = row_type
        fields = msgspec.structs.fields(row_type)
        self._fields: Final = [field.name for field in fields]
        self._as_json: Final = [(i, _admits_none(field.type)) for i, field in enumerate(fields) if _is_json(field.type)]
        self._from: Final = [(field.name, decoder) for field in fields if (decoder := _decoder(field.type)) is not None]
        self.columns: Final = tuple((renamed or {}).get(field, field) for field in self._fields)
        columns = [f'"{column}"' for column in self.columns]
        keys = ["run_id", *key]
        places = ", ".join("?" * (len(columns) + 1))
        changed = ", ".join(f"{column} = excluded.{column}" for column in columns if column.strip('"') not in keys)
        # Names of tables and columns only; every value is a parameter.
        self._upsert: Final = (
            f"INSERT INTO {name} (run_id, {', '.join(columns)}) VALUES ({places})"  # noqa: S608
            f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}"
        )
        self._select: Final = f"SELECT {', '.join(columns)} FROM {name} WHERE run_id = ?"  # noqa: S608
        self._find: Final = self._select + "".join(f" AND {column} = ?" for column in key)
        self._key: Final = tuple(key)

    def find(self, connection: sqlite3.Connection, run_id: str, key: tuple[Value, ...]) -> R | None:
        """Return the row that ``key`` names."""
        found = connection.execute(self._find, (run_id, *key)).fetchone()
        return None if found is None else self._row(found)

    def find_all(self, connection: sqlite3.Connection, run_id: str, keys: Sequence[tuple[Value, ...]]) -> Iterator[R]:
        """Yield those of the rows that ``keys`` name which are there; a tenth of the cost of finding them one by one."""
        one = f"({', '.join('?' * len(self._key))})"
        for start in range(0, len(keys), _MOST_KEYS):
            some = keys[start : start + _MOST_KEYS]
            where = f"({', '.join(self._key)}) IN (VALUES {', '.join([one] * len(some))})"
            yield from self.select(connection, run_id, where, [value for key in some for value in key])

    def select(
        self, connection: sqlite3.Connection, run_id: str, where: str = "", values: Sequence[Value] = ()
    ) -> Iterator[R]:
        """Yield the rows of a run, those that ``where`` (a condition of ours) lets through."""
        asked = f"{self._select} AND {where}" if where else self._select
        return map(self._row, connection.execute(asked, (run_id, *values)))

    def key_of(self, row: R) -> tuple[Value, ...]:
        """Return what names ``row`` in its run."""
        return tuple(getattr(row, name) for name in self._key)

    def upsert(self, connection: sqlite3.Connection, run_id: str, rows: Iterable[R]) -> None:
        """Write ``rows``, in place of those with the same keys."""
        connection.executemany(self._upsert, (self._values(run_id, row) for row in rows))

    def _values(self, run_id: str, row: R) -> list[Value]:
        values: list[Any] = list(msgspec.structs.astuple(row))
        for index, is_nullable in self._as_json:
            value = values[index]
            if value is not None or not is_nullable:
                values[index] = "[]" if value == () else _encode(value).decode()
        return [run_id, *values]

    def _row(self, values: Sequence[Value]) -> R:
        fields: dict[str, Any] = dict(zip(self._fields, values, strict=True))
        for name, decode in self._from:
            if (value := fields[name]) is not None:
                fields[name] = decode(value)
        return self._row_type(**fields)


def _parts(field_type: object) -> set[object]:
    return set(get_args(field_type)) if get_origin(field_type) in (Union, types.UnionType) else {field_type}


def _admits_none(field_type: object) -> bool:
    return type(None) in _parts(field_type)


def _is_json(field_type: object) -> bool:
    return not _parts(field_type) <= {int, str, bool, type(None)}


def _decoder(field_type: type[object]) -> Callable[[Any], object] | None:
    if bool in _parts(field_type):
        return bool
    return msgspec.json.Decoder(field_type).decode if _is_json(field_type) else None


RUNS: Final = Table("runs", RunRow, key=(), renamed={"run_id": "header_run_id"})
JOBS: Final = Table("jobs", JobRow, key=("job_id", "attempt"))
CALLS: Final = Table("sh", CallRow, key=("job_id", "attempt", "sh"))
NOTES: Final = Table("notes", NoteRow, key=("seq",))
