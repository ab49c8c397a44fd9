"""What the server would do for a statement, asked and not guessed.

Owns the question, and which steps of an answer read something.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from procflow_export.sources.postgres.session import Connection


async def scans_of(connection: Connection, statement: str) -> frozenset[str]:
    """Return the kinds of the steps at the leaves of a statement's plan."""
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}"))
    return frozenset(_leaves(plan["Plan"]))


def _leaves(node: dict[str, Any]) -> Iterator[str]:
    children = node.get("Plans", [])
    if not children:
        yield node.get("Node Type", "")
    for child in children:
        yield from _leaves(child)
