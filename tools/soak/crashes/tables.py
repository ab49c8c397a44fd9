"""A table of awkward values that never rests, and every state that it had: what published rows are compared with.

A row is ``(id, owner, at, stamp)`` and values that follow from owner and stamp, where the stamp is the number of the transaction that
wrote it: so the largest stamp among some rows names the only state that they may be.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from tools.soak.crashes.databases import AWAY, PATIENCE_S, Connection, Database, Values, wait_until

STEP: Final = 10
"""Distance of two keys: room for rows to move to."""
TIES: Final = 3
"""How many rows share a value of ``at``."""
PAUSE_S: Final = 0.01
TEXTS: Final = (
    *("", "NULL", "\\N", "a,b", 'say "so"', "two\nlines", "tab\there", "it's", "naïve 雪 🙂", "x" * 300, " padded "),
    *("%s {} $1 :name", "-- no comment", None),
)
Row = tuple[int, int | None, int]
"""Key, time and stamp; by owner, who never changes."""
State = dict[int, Row]


class Change(Enum):
    """What the writer of a table does."""

    ANYTHING = "anything"
    """Rows change, move to other keys, are removed and added."""
    IN_PLACE = "in place"
    """Rows change and stay where they are."""
    APPEND = "append"
    """Rows are added behind the last one, with ties of ``at``."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column whose values follow from a row's owner and stamp.

    Attributes:
        types: Its type by kind of database.
        value: What is in it.
        as_text: Whether SQLite, which has no such type, stores its text.
        read_as: How DuckDB is asked for it; ``{}`` is the column.
    """

    types: dict[str, str]
    value: Callable[[int, int], Any]
    as_text: bool = False
    read_as: str = "{}"

    def stored(self, kind: str, owner: int, stamp: int) -> object:
        """Return what is in the column of a database."""
        value = self.value(owner, stamp)
        return str(value) if self.as_text and kind == "sqlite" and value is not None else value

    def selected(self, kind: str, name: str) -> str:
        """Return how DuckDB is asked for the column."""
        return f'"{name}"' if self.as_text and kind == "sqlite" else self.read_as.format(f'"{name}"')

    def published(self, kind: str, owner: int, stamp: int) -> object:
        """Return what an independent reader must find."""
        value = self.stored(kind, owner, stamp)
        if isinstance(value, datetime):
            return (value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        return value


def _mixed(owner: int, stamp: int) -> int:
    return owner * 7919 + stamp * 104729


def _moment(owner: int, stamp: int) -> datetime:
    began = datetime(1960, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC).replace(tzinfo=None)  # the column has no zone
    return began + timedelta(microseconds=_mixed(owner, stamp) * 10_007_011)


COLUMNS: Final = {
    "note": Column(
        {"postgres": "text", "mysql": "text", "sqlite": "text"}, lambda o, s: TEXTS[_mixed(o, s) % len(TEXTS)]
    ),
    "amount": Column(
        {"postgres": "numeric(20,4)", "mysql": "decimal(20,4)", "sqlite": "text"},
        lambda o, s: None if o % 11 == 0 else Decimal(_mixed(o, s) * (-1) ** o * 1_000_003).scaleb(-4),
        as_text=True,
    ),
    "raw": Column(
        {"postgres": "bytea", "mysql": "varbinary(64)", "sqlite": "blob"},
        lambda o, s: None if o % 13 == 0 else bytes(_mixed(o, s) % (256 - i) for i in range(o % 9)),
    ),
    "ratio": Column(
        {"postgres": "double precision", "mysql": "double", "sqlite": "real"},
        lambda o, s: [0.1, -1e-300, 1.7976931348623157e308, 1 / 3][o % 4] / (1 + s % 7),
    ),
    "day": Column(
        {"postgres": "date", "mysql": "date", "sqlite": "text"},
        lambda o, s: date(1970, 1, 1) + timedelta(days=_mixed(o, s) % 40_000),
        as_text=True,
    ),
    "seen": Column(
        {"postgres": "timestamp", "mysql": "datetime(6)", "sqlite": "text"},
        _moment,
        as_text=True,
        read_as="epoch_us({})",
    ),
}


def row_order(row: Values) -> tuple[int, int]:
    """Return what rows are sorted by: owner and stamp, which no two rows share."""
    return row[1], row[3]


class MovingTable:
    """Table ``t`` of one database and its writer; every state that was committed is remembered."""

    def __init__(self, database: Database, *, change: Change, rows: int, seed: str, has_nulls: bool) -> None:
        self.database = database
        self.change = change
        self.kind = database.kind
        self._dice = random.Random(seed)
        self._began = int(datetime.now(UTC).timestamp()) - 2 * 86_400
        self._first = {
            owner: (owner * STEP, None if has_nulls and owner % 500 == 7 else self._at(owner), 0)
            for owner in range(rows)
        }
        self._state: State = dict(self._first)
        self._history: list[dict[int, Row | None]] = []
        self._next_owner = rows
        self.committed = 0
        """How many transactions are committed for certain."""
        self._stopped = threading.Event()
        self.failure: BaseException | None = None
        connection = database.connect()
        try:
            connection.execute(
                "create table t(id bigint not null primary key, owner int not null, at bigint, stamp int not null, "
                + ", ".join(f"{name} {column.types[self.kind]}" for name, column in COLUMNS.items())
                + ")",
                "create index t_at on t(at)",
                "create index t_owner on t(owner)",
            )
            connection.replace([], self._stored(self._state))
        finally:
            connection.close()

    def copied(self, database: Database) -> MovingTable:
        """Return the table as it is in a copy of its database."""
        twin = copy.copy(self)
        twin.__dict__ |= {
            "database": database,
            "_dice": copy.deepcopy(self._dice),
            "_state": dict(self._state),
            "_history": list(self._history),
            "_stopped": threading.Event(),
        }
        return twin

    def commit(self, times: int) -> None:
        """Write so many transactions now, in this thread."""
        connection = self.database.connect()
        try:
            for _ in range(times):
                connection = self._commit_next(connection)
        finally:
            connection.close()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Write all the time, whatever happens to the server."""
        self._stopped.clear()
        thread = threading.Thread(target=self._write, name="writer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join(2 * PATIENCE_S)
            if thread.is_alive():
                raise TimeoutError("the writer of the table is stuck")
            if self.failure is not None:
                raise self.failure

    def state_after(self, stamp: int) -> State:
        """Return the table after so many transactions."""
        state = dict(self._first)
        for change in self._history[:stamp]:
            for owner, row in change.items():
                if row is None:
                    del state[owner]
                else:
                    state[owner] = row
        return state

    def published(self, state: State) -> list[Values]:
        """Return the rows of a state as an independent reader must find them, in order."""
        return sorted((self._as_published(owner, row) for owner, row in state.items()), key=row_order)

    def _as_published(self, owner: int, row: Row) -> Values:
        key, at, stamp = row
        return key, owner, at, stamp, *(column.published(self.kind, owner, stamp) for column in COLUMNS.values())

    def _stored(self, rows: dict[int, Row]) -> list[Values]:
        return [
            (key, owner, at, stamp, *(column.stored(self.kind, owner, stamp) for column in COLUMNS.values()))
            for owner, (key, at, stamp) in rows.items()
        ]

    def _write(self) -> None:
        try:
            connection = self.database.connect()
            try:
                while not self._stopped.wait(PAUSE_S):
                    connection = self._commit_next(connection)
            finally:
                connection.close()
        except BaseException as exc:  # noqa: BLE001 (raised again where the writer is stopped)
            self.failure = exc

    def _commit_next(self, connection: Connection) -> Connection:
        """Commit one transaction for certain; return the connection that is good afterwards."""
        stamp = self.committed + 1
        change = self._next_change(stamp)
        rows = {owner: row for owner, row in change.items() if row is not None}
        stored = self._stored(rows)
        # Readers may see the transaction before its commit returns.
        self._history.append(change)
        while True:
            try:
                connection.replace([owner for owner in change if owner in self._state], stored)
                break
            except AWAY:
                connection.close()
                (connection,) = wait_until(self._reconnected, "the writer has its server back")
                # A commit whose answer was lost is one all the same.
                if connection.rows(f"select 1 from t where stamp = {stamp}"):
                    break
        for owner, row in change.items():
            if row is None:
                del self._state[owner]
            else:
                self._state[owner] = row
        self.committed = stamp
        return connection

    def _reconnected(self) -> tuple[Connection, ...]:
        try:
            return (self.database.connect(),)
        except AWAY:
            return ()

    def _at(self, owner: int) -> int:
        return self._began + owner // TIES

    def _next_change(self, stamp: int) -> dict[int, Row | None]:
        if self.change is Change.APPEND:
            owners = range(self._next_owner, self._next_owner + self._dice.randint(1, 5))
            self._next_owner = owners.stop
            return {owner: (owner * STEP, self._at(owner), stamp) for owner in owners}
        one, other, mover, leaver = self._dice.sample(sorted(self._state), 4)
        change: dict[int, Row | None] = {owner: (*self._state[owner][:2], stamp) for owner in (one, other)}
        if self.change is Change.ANYTHING:
            taken = {key for key, _, _ in self._state.values()}
            places = (self._dice.randrange(self._next_owner * STEP) for _ in range(1_000_000))
            change[mover] = (next(place for place in places if place not in taken), self._state[mover][1], stamp)
            change[leaver] = None
            change[self._next_owner] = (*self._state[leaver][:2], stamp)
            self._next_owner += 1
        return change
