"""What tests of code that starts processes need: scripted processes, a hostile tree, and proof that nothing was left behind."""

from __future__ import annotations

from procflow.testing.fake_process import Call
from procflow.testing.fakes import FakeSpawner, ScriptError, UnscriptedError
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
from procflow.testing.scripts import Script

__all__ = (
    "Call",
    "FakeSpawner",
    "Hostile",
    "HostileTree",
    "LeaderManner",
    "LeakError",
    "Script",
    "ScriptError",
    "Started",
    "Survivor",
    "UnscriptedError",
    "assert_no_leaks",
    "hostile_tree",
    "parse_started",
    "survivors",
)
