"""What tests of code that starts processes need: a hostile tree to end, and proof that nothing was left behind."""

from __future__ import annotations

from procflow.testing.hostile import (
    Hostile,
    HostileTree,
    LeaderManner,
    Started,
    Survivor,
    hostile_tree,
    parse_started,
    survivors,
)
from procflow.testing.leaks import LeakError, assert_no_leaks

__all__ = (
    "Hostile",
    "HostileTree",
    "LeaderManner",
    "LeakError",
    "Started",
    "Survivor",
    "assert_no_leaks",
    "hostile_tree",
    "parse_started",
    "survivors",
)
