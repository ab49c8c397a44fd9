"""How many connections a run has to each database, over all of its processes.

Owns the counting, one account a database, whatever the limits of the exports that read it.  Who opens a connection, in
whatever process, takes it from here first and gives it back when it is closed; a connection that a worker keeps for its
next unit is one that the account must have room for (see ``may_keep``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio
import msgspec

from procflow_export.model.settings import SourceConfig, Tuning
from procflow_export.planning.plan import Target


@dataclass(slots=True, eq=False)
class Account:
    """The connections to one database.

    Attributes:
        limit: How many there may be; 0 is no limit.
        may_keep: Whether workers may keep connections that they do not use.
    """

    limit: int
    may_keep: bool
    _taken: int = 0
    _given: anyio.Event = field(default_factory=anyio.Event)

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken

    def has(self, count: int) -> bool:
        """Whether ``count`` more may be taken."""
        return not self.limit or self._taken + count <= self.limit

    def take(self, count: int) -> None:
        """Take ``count``; the caller has asked ``has()``."""
        self._taken += count

    def give(self, count: int) -> None:
        """Give ``count`` back: they are closed."""
        self._taken -= count
        given, self._given = self._given, anyio.Event()
        given.set()

    async def wait_taken(self, count: int) -> None:
        """Take ``count`` as soon as there are so many."""
        while not self.has(count):
            await self._given.wait()
        self.take(count)


class Connections:
    """The accounts of all databases of a run."""

    def __init__(self, targets: Iterable[Target], *, max_units: int, max_planners: int) -> None:
        """Open the accounts.

        Args:
            targets: The exports of the run.
            max_units: Units that run at once, at most; so many workers may keep a connection each, for each way to use it.
            max_planners: Exports that are planned at once.
        """
        ways: dict[SourceConfig, set[SourceConfig]] = {}
        limits: dict[SourceConfig, list[int]] = {}
        for target in targets:
            ways.setdefault(_database(target.source), set()).add(target.source)
            limits.setdefault(_database(target.source), []).append(target.limits.max_connections)
        self._accounts = {
            database: _account(limits[database], most=len(used) * (max_units + max_planners) + 2 * max_units)
            for database, used in ways.items()
        }

    def of(self, source: SourceConfig) -> Account:
        """Return the account of the database that ``source`` leads to."""
        return self._accounts[_database(source)]


def _account(limits: list[int], *, most: int) -> Account:
    limit = min((limit for limit in limits if limit), default=0)
    return Account(limit=limit, may_keep=not limit or limit >= most)


def _database(source: SourceConfig) -> SourceConfig:
    """Return what tells one database from another: exports read it with limits of their own."""
    return msgspec.structs.replace(source, tuning=Tuning())
