"""What the server would do for a statement, asked and not guessed.

Owns the question, and which steps of an answer read something.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from procflow_export.sources.postgres.session import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """How a server would do a statement.

    Attributes:
        scans: The kinds of the steps that read something: the leaves of the plan.
        row_count: Rows of the result, as the statistics have it.
        row_bytes: Size of one of them; at least 1.
    """

    scans: frozenset[str]
    row_count: int
    row_bytes: int


async def planned(connection: Connection, statement: str) -> Planned:
    """Return how the server would do a statement; until the transaction ends, what that reads is locked against changes of shape."""
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}"))
    top = plan["Plan"]
    return Planned(
        scans=frozenset(_leaves(top)),
        row_count=int(top.get("Plan Rows", 0)),
        row_bytes=max(int(top.get("Plan Width", 0)), 1),
    )


def _leaves(node: dict[str, Any]) -> Iterator[str]:
    children = node.get("Plans", [])
    if not children:
        yield node.get("Node Type", "")
    for child in children:
        yield from _leaves(child)
