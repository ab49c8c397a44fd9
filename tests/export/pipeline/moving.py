"""A table that never rests: one writer moves, changes, adds and removes rows, and remembers what it did.

What an export published is compared with the states that the table had, one after each transaction: it must be one of them,
exactly.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pymysql

from tests.export.pipeline.runs import select

Row = tuple[int, int, int]
"""Key, balance, number of the transaction that wrote it; by owner, who never changes."""
State = dict[int, Row]

WAIT_S = 60.0
STEP = 10
"""Distance of two keys: room for rows to move to."""
KINDS = ("postgres", "mysql", "sqlite")


class MovingTable:
    """The table ``accounts`` of one database, and its writer."""

    def __init__(self, kind: str, place: str, *, rows: int = 4_000, seed: int = 0) -> None:
        self.kind = kind
        self.place = place
        self.rows = rows
        self.count = 0
        """Transactions that are committed, or about to be."""
        self._dice = random.Random(seed)
        self._state: State = {owner: (owner * STEP, 100, 0) for owner in range(rows)}
        self._next_owner = rows
        self._history: list[dict[int, Row | None]] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        with executing(kind, place) as execute:
            if kind == "sqlite":
                execute("pragma journal_mode = wal")
            execute(
                "create table accounts(id integer not null primary key, owner int not null, balance int not null, stamp int not null)"
            )
            values = ",".join(f"({owner * STEP},{owner},100,0)" for owner in range(rows))
            execute(f"insert into accounts values {values}")

    @property
    def source(self) -> dict[str, Any]:
        where = {"path": self.place} if self.kind == "sqlite" else {"url": self.place, "tls": {"mode": "disable"}}
        return {"type": self.kind, **where}

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Write all the time."""
        thread = threading.Thread(target=self._write, name="writer", daemon=True)
        thread.start()
        try:
            self.wait(1)
            yield
        finally:
            self._stopped.set()
            thread.join(WAIT_S)
            self._stopped.clear()
            assert not thread.is_alive()

    def wait(self, more: int) -> None:
        """Wait until the writer has done ``more``."""
        with self._changed:
            goal = self.count + more
            assert self._changed.wait_for(lambda: self.count >= goal, WAIT_S), "the writer is stuck"

    def state_after(self, stamp: int) -> State:
        """The table after so many transactions."""
        state: State = {owner: (owner * STEP, 100, 0) for owner in range(self.rows)}
        for change in self._history[:stamp]:
            for owner, row in change.items():
                if row is None:
                    del state[owner]
                else:
                    state[owner] = row
        return state

    def published(self, files: str) -> tuple[int, list[tuple[int, Row]]]:
        """The rows in files, by owner, and the number of the last transaction that they show."""
        rows = [
            (owner, (key, balance, stamp))
            for key, owner, balance, stamp in select(f"select id, owner, balance, stamp from '{files}'")
        ]
        return max(stamp for _, (_, _, stamp) in rows), sorted(rows)

    def is_one_state(self, files: str) -> bool:
        """Whether files hold one of the states that there were, exactly."""
        stamp, rows = self.published(files)
        return rows == sorted(self.state_after(stamp).items())

    def _write(self) -> None:
        with executing(self.kind, self.place) as execute:
            while not self._stopped.is_set():
                change = self._next_change()
                self._history.append(change)
                execute("begin immediate" if self.kind == "sqlite" else "begin")
                for owner, row in change.items():
                    if row is None:
                        execute(f"delete from accounts where owner = {owner} and id = {self._key_before(owner)}")
                    elif owner in self._state:
                        execute(
                            f"update accounts set id = {row[0]}, balance = {row[1]}, stamp = {row[2]}"
                            f" where id = {self._key_before(owner)}"
                        )
                    else:
                        execute(f"insert into accounts values ({row[0]}, {owner}, {row[1]}, {row[2]})")
                execute("commit")
                for owner, row in change.items():
                    if row is None:
                        del self._state[owner]
                    else:
                        self._state[owner] = row
                with self._changed:
                    self.count += 1
                    self._changed.notify_all()

    def _key_before(self, owner: int) -> int:
        return self._state[owner][0]

    def _next_change(self) -> dict[int, Row | None]:
        """Move money from one to another, one row to another place, also behind the last one, and replace one row."""
        stamp = len(self._history) + 1
        payer, payee, mover, leaver = self._dice.sample(sorted(self._state), 4)
        change: dict[int, Row | None] = {}
        for owner, amount in ((payer, -7), (payee, 7)):
            key, balance, _ = self._state[owner]
            change[owner] = (key, balance + amount, stamp)
        taken = {key for key, _, _ in self._state.values()}
        place = self._dice.choice(
            [key for key in self._dice.sample(range(self.rows * STEP * 3), 8) if key not in taken]
        )
        change[mover] = (place, self._state[mover][1], stamp)
        key, balance, _ = self._state[leaver]
        change[leaver] = None
        change[self._next_owner] = (key, balance, stamp)
        self._next_owner += 1
        return change


async def connected(url: str) -> Any:
    return await asyncpg.connect(url)


@contextmanager
def executing(kind: str, place: str) -> Iterator[Callable[[str], Any]]:
    """A connection of one's own, for synchronous code."""
    if kind == "sqlite":
        database = sqlite3.connect(Path(place), isolation_level=None, timeout=WAIT_S)
        try:
            yield lambda statement: database.execute(statement).fetchall()
        finally:
            database.close()
    elif kind == "mysql":
        url = urlsplit(place)
        connection = pymysql.connect(
            host=url.hostname, port=url.port or 3306, user=url.username, database=url.path[1:], autocommit=True
        )

        def execute(statement: str) -> Any:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()

        with connection:
            yield execute
    else:
        # A loop of its own in a thread of its own: this one may be running a loop already.
        with ThreadPoolExecutor(1) as thread:
            loop = asyncio.new_event_loop()

            def finish(work: Coroutine[Any, Any, Any]) -> Any:
                return thread.submit(loop.run_until_complete, work).result()

            asynchronous = finish(connected(place))
            try:
                yield lambda statement: finish(asynchronous.fetch(statement))
            finally:
                finish(asynchronous.close())
                loop.close()
