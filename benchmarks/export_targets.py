"""What the export promises of its speed, its memory and its source, on every server alike.

Owns the bounds that PostgreSQL and MariaDB share, and the names of our rows; what is promised against one server's own peers is in its
benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.export_trials import CASES
from benchmarks.targets import Target, Variants

ONE: Final = "procflow, 1 worker"
TWO: Final = "procflow, 2 workers"
CHILD: Final = "procflow, 1 child process"
CHILDREN: Final = "procflow, 2 child processes"
OURS: Final = (ONE, TWO, CHILD, CHILDREN)

PEAK_MIB: Final = 200
STATEMENT_S: Final = 2


def shared_targets(
    server: str,
    *,
    drains: Mapping[str, str],
    drain_ratio: float,
    peers: tuple[str, ...],
    one_worker_peers: tuple[str, ...],
) -> Iterator[Target]:
    """Yield the targets of one server.

    Args:
        server: Its name, as the table says it.
        drains: For each table the variant in which the server's own client throws the same rows away.
        drain_ratio: How much longer than that one worker may take.
        peers: Whoever exports from this server, with any number of workers.
        one_worker_peers: Those of them that read the whole table with one connection.
    """
    for case in CASES:

        def target(what: str, metric: str, of: Variants, *, case: str = case, **bound: Any) -> Target:
            return Target(promise=f"{server}, {case}: {what}", metric=metric, case=case, of=of, **bound)

        drain = drains[case]
        yield target("our best over the best of all peers", "wall_s", OURS, over=peers, at_most=1)
        yield target(f"one worker over {drain}", "wall_s", ONE, over=drain, at_most=drain_ratio)
        yield target(
            "CPU of the server for a row, one worker over the best of such peers",
            "server_us_row",
            ONE,
            over=one_worker_peers,
            at_most=1,
        )
        yield target("columns not exact", "inexact", ONE, at_most=0)
        yield target("peak memory, one worker", "peak_mib", ONE, at_most=PEAK_MIB, unit="MiB")
        yield target("peak memory, two workers", "peak_mib", TWO, at_most=PEAK_MIB, unit="MiB")
        yield target("longest statement, in chunks", "statement_s", TWO, at_most=STATEMENT_S, unit="s")
        yield target("longest transaction, in chunks", "transaction_s", TWO, is_stated=True, unit="s")
