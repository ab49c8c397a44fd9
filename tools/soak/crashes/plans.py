"""What is killed, when, and in which export: drawn from a seed, and nothing but values.

Every draw is a case that makes sense: a worker is killed only where there are workers, a server only where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Final

from procflow_export.destinations.crash import CRASH_POINTS, READ_POINTS
from tools.servers.buckets import StoreKind
from tools.soak.crashes.tables import Change

BATCH_ROWS: Final = 150
ROWS: Final = 1_500
ENGINES: Final = ("processes", "in-process")
SOURCES: Final = ("postgres", "mysql", "sqlite")
STORES: Final[tuple[StoreKind, ...]] = ("azure", "rclone", "s3", "gcs")
STORE_OF: Final[Mapping[str, StoreKind]] = {kind: kind for kind in STORES}
LOCAL: Final = "local"


class Victim(StrEnum):
    """Who is ended by SIGKILL, or as the server ends somebody."""

    PARENT = "parent"
    WORKER = "worker"
    BACKEND = "backend"
    """The server's side of every connection, as an administrator ends it."""
    BACKEND_PROCESS = "backend process"
    """One process of PostgreSQL by SIGKILL: the server ends all others and recovers."""
    SERVER = "server"
    """The whole server, which is started again on what it left."""
    STORE = "store"
    """The object store, which is started again on what it left; one that keeps objects in memory is cut off."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How an export is configured, and what may happen to its table meanwhile."""

    options: dict[str, Any]
    change: Change
    is_cumulative: bool = False
    is_one_state: bool = True
    has_nulls: bool = False
    """Whether some rows have no cursor: every run exports them anew."""


MODES: Final = {
    "full": Mode({"mode": "full"}, Change.ANYTHING),
    "chunked, snapshot": Mode(
        {"mode": "chunked", "chunk_column": "id", "chunk_count": 4, "parallel": 2, "consistency": "snapshot"},
        Change.ANYTHING,
    ),
    "chunked, chunk": Mode(
        {"mode": "chunked", "chunk_column": "id", "chunk_count": 4, "parallel": 2, "consistency": "chunk"},
        Change.IN_PLACE,
        is_one_state=False,
    ),
    "incremental": Mode(
        {"mode": "incremental", "cursor_column": "at"}, Change.APPEND, is_cumulative=True, has_nulls=True
    ),
    "keyset_incremental": Mode(
        {"mode": "chunked", "chunk_by_key": "id", "chunk_size": 400, "keyset_incremental": True, "parallel": 2},
        Change.APPEND,
        is_cumulative=True,
    ),
    "time_window": Mode(
        {"mode": "time_window", "time_column": "at", "time_column_type": "unix", "days_window": 4, "parallel": 2},
        Change.IN_PLACE,
        is_cumulative=True,
        has_nulls=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When: as a process of the run reaches a point for the n-th time, or some time after its start."""

    point: str | None = None
    count: int = 1
    delay_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.delay_s:.2f} s after the start" if self.point is None else f"{self.point}:{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One export and the one who is killed in it."""

    number: int
    seed: str
    victim: Victim
    moment: Moment
    mode: str
    source: str
    engine: str
    destination: str
    has_set: bool
    """Whether a set is published before."""
    has_retries: bool
    resumes: bool = False
    """Whether the runs after the kill go on with what it left, instead of beginning anew."""

    def __str__(self) -> str:
        then = ", then --resume" if self.resumes else ""
        before = "over a set" if self.has_set else "the first run"
        return f"{self.victim} at {self.moment}: {self.mode} from {self.source} by {self.engine} to {self.destination}, {before}{then}"


_COUNTS: Final = {"unit.batch_read": 4, "put.synced": 3}
_MOST_PARTS: Final = 2
_SOURCES_OF: Final[dict[Victim, frozenset[str]]] = {
    Victim.PARENT: frozenset(SOURCES),
    Victim.WORKER: frozenset(SOURCES),
    Victim.BACKEND: frozenset({"postgres", "mysql"}),
    Victim.BACKEND_PROCESS: frozenset({"postgres"}),
    Victim.SERVER: frozenset({"postgres", "mysql"}),
    Victim.STORE: frozenset(SOURCES),
}


def draw(
    seed: str,
    number: int,
    *,
    sources: tuple[str, ...] = SOURCES,
    victims: tuple[Victim, ...] = tuple(Victim),
    stores: tuple[StoreKind, ...] = STORES,
) -> Plan:
    """Return plan ``number`` of a seed; victims take turns, everything else is chance."""
    dice = Random(f"{seed}.{number}")
    possible = [
        victim for victim in victims if _SOURCES_OF[victim] & {*sources} and (stores or victim is not Victim.STORE)
    ]
    victim = possible[number % len(possible)]
    destination: str = dice.choice(stores) if victim is Victim.STORE or (stores and dice.random() < 0.3) else LOCAL
    return Plan(
        number=number,
        seed=seed,
        victim=victim,
        moment=_moment(dice),
        mode=dice.choice(tuple(MODES)),
        source=dice.choice([source for source in sources if source in _SOURCES_OF[victim]]),
        engine="processes" if victim is Victim.WORKER else dice.choice(ENGINES),
        destination=destination,
        has_set=dice.random() < 0.5,
        has_retries=victim in (Victim.WORKER, Victim.STORE) or dice.random() < 0.2,
        resumes=dice.random() < 0.4,
    )


def _moment(dice: Random) -> Moment:
    if dice.random() < 0.2:
        return Moment(delay_s=dice.uniform(0.1, 2.5))
    # Half of the moments lie before anything is published: that is where most of a run's time goes.
    point = dice.choice(READ_POINTS) if dice.random() < 0.35 else dice.choice(CRASH_POINTS)
    return Moment(
        point=point, count=dice.randint(1, _COUNTS.get(point, _MOST_PARTS if point.startswith("part.") else 1))
    )
