"""Ingesters that are killed: `python -m tests.core.record.store.killing RECORD DIRECTORY KILLS SEED` prints what came of it as JSON.

A process of its own, because it forks: each ingester is a fork that is killed at a random moment of the time that a whole ingest takes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from procflow.record.reading.files import open_record
from procflow.record.store.database import open_database
from procflow.record.store.ingest import Ingest
from tests.core.record.store.databases import dump_of

BATCH_EVENTS = 15


def ingest(record: Path, database: Path) -> None:
    with open_record(record) as file, open_database(database) as connection:
        Ingest(connection, file, batch_events=BATCH_EVENTS).run()


def ingest_in_fork(record: Path, database: Path, *, kill_after_s: float | None) -> bool:
    """Return whether the ingester was killed."""
    pid = os.fork()
    if pid == 0:
        ingest(record, database)
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def main(record: Path, directory: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill so many ingesters; each finds what the one before left, and after some of them one is let go on to the end."""
    chance = random.Random(seed)
    ingest(record, directory / "whole.db")
    whole = dump_of(directory / "whole.db")
    began_s = time.monotonic()
    ingest_in_fork(record, directory / "timed.db", kill_after_s=None)
    took_s = time.monotonic() - began_s

    killed = dumps = different = 0
    while killed < kills:
        database = directory / f"killed{dumps}.db"
        for _ in range(chance.randint(1, 8)):
            killed += ingest_in_fork(record, database, kill_after_s=chance.random() * took_s)
        ingest_in_fork(record, database, kill_after_s=None)
        dumps += 1
        different += dump_of(database) != whole
        for left in directory.glob(f"{database.name}*"):
            left.unlink()
    return {"killed": killed, "dumps": dumps, "different": different}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
