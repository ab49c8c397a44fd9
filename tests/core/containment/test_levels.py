"""Every cell of the table "what escapes at which level"."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow.testing import Hostile, HostileTree, hostile_tree
from tests.core.containment.level_hosts import GONE_S, NOBODY, ROOT, everybodys_copy, other_python, running_host
from tests.core.containment.levels import HELD_BY_BLOCK, HELD_BY_DEATH, LEVELS
from tests.patience import FairClock

CELLS = [pytest.param(level, member, id=f"{level}-{member.value}") for level in LEVELS for member in Hostile]


def name_of(backend: tuple[str, dict[str, bool]]) -> str:
    name, options = backend
    return "uvloop" if options.get("use_uvloop") else name


def require_gone(tree: HostileTree, member: Hostile, *, is_held: bool) -> None:
    """Check who is alive of one member's tree: nobody, or the member and nobody else."""
    left = {survivor.member for survivor in tree.survivors()}
    assert (left == set()) if is_held else left == {member}


@pytest.mark.anyio
@pytest.mark.parametrize(("level", "member"), CELLS)
async def test_leaving_the_block(level: str, member: Hostile) -> None:
    """C-67, C-83, C-84: who is gone when the block was left."""
    with hostile_tree(member, dying_s=0.2) as tree:
        async with pf.spawn(tree.command, containment=level, shutdown=pf.Shutdown.sigterm(0.5)) as child:  # type: ignore[arg-type]  # one of the names
            await tree.wait_ready(child)

        require_gone(tree, member, is_held=member in HELD_BY_BLOCK[level])


@pytest.mark.anyio
@pytest.mark.parametrize(("level", "member"), CELLS)
async def test_terminate(level: str, member: Hostile) -> None:
    """C-65, C-83, C-84: who is gone when terminate() has returned."""
    with hostile_tree(member, dying_s=0.2) as tree:
        async with pf.spawn(tree.command, containment=level) as child:  # type: ignore[arg-type]  # one of the names
            await tree.wait_ready(child)
            with anyio.fail_after(60):
                await child.terminate(pf.Shutdown.sigterm(0.5))

            require_gone(tree, member, is_held=member in HELD_BY_BLOCK[level])


@pytest.mark.parametrize("level", LEVELS)
def test_death_of_the_host(level: str, anyio_backend: tuple[str, dict[str, bool]], clock: FairClock) -> None:
    """C-80, C-82, C-84: who is gone after SIGKILL of the host; each cell has a tree of its own, and all of them one host."""
    with a_tree_of_each() as trees, running_host(level, [*trees.values()], backend=name_of(anyio_backend)) as host:
        host.send_signal(signal.SIGKILL)
        host.wait()
        require_left_by_death(trees, level, clock)


@pytest.mark.root
@pytest.mark.parametrize("level", LEVELS)
def test_death_of_the_host_of_another_user(level: str, everybodys: Path, clock: FairClock) -> None:
    """C-80, C-82, C-84: the same without any privilege."""
    with a_tree_of_each("/usr/bin/python3") as trees:
        with running_host(level, [*trees.values()], prefix=NOBODY, folder=everybodys) as host:
            assert os.stat(f"/proc/{host.pid}").st_uid == 65534
            host.send_signal(signal.SIGKILL)
            host.wait()
            require_left_by_death(trees, level, clock)


@pytest.mark.root
@pytest.mark.parametrize("level", LEVELS)
def test_blocks_of_another_user(level: str, everybodys: Path) -> None:
    """C-83, C-84: without any privilege leaving the blocks ends everybody whom the level holds."""
    with hostile_tree(*sorted(HELD_BY_BLOCK[level], key=str), python="/usr/bin/python3", dying_s=0.2) as tree:
        with running_host(level, [tree], prefix=NOBODY, folder=everybodys) as host:
            assert host.stdin is not None
            host.stdin.write("leave\n")
            host.stdin.flush()
            assert host.wait(60) == 0
            assert tree.survivors() == []


@contextmanager
def a_tree_of_each(python: str = sys.executable) -> Iterator[dict[Hostile, HostileTree]]:
    """A tree for each member, with nobody else in it."""
    with ExitStack() as trees:
        yield {member: trees.enter_context(hostile_tree(member, python=python)) for member in Hostile}


def require_left_by_death(trees: Mapping[Hostile, HostileTree], level: str, clock: FairClock) -> None:
    """Check every cell: who is alive of each tree once the host has been dead for the time that is promised."""
    begun = time.monotonic()
    for member, tree in trees.items():
        if level == "group":
            assert None in {survivor.member for survivor in tree.survivors()}, f"somebody ended the leader of {member}"
            continue
        expected = set() if member in HELD_BY_DEATH[level] else {member}
        while (left := {survivor.member for survivor in tree.survivors()}) != expected:
            assert clock.since(begun) < GONE_S, f"{member} at the level {level}: {left}"
            time.sleep(0.005)


@pytest.fixture(scope="module")
def everybodys() -> Iterator[Path]:
    reason = other_python()
    if reason is not None:
        pytest.skip(reason)
    with everybodys_copy() as folder:
        yield folder


def test_the_table_of_the_documentation() -> None:
    """C-84: the page says what these tests show."""
    page = (ROOT / "docs" / "explanation" / "containment.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(Hostile\.[A-Z_]+)` \|[^|]*\| (.*) \|$", page, re.MULTILINE))

    def word(is_held: bool) -> str:
        return "held" if is_held else "**escapes**"

    assert rows == {
        f"Hostile.{member.name}": " | ".join(
            [word(member in held[level]) for held in (HELD_BY_BLOCK, HELD_BY_DEATH) for level in LEVELS]
        )
        for member in Hostile
    }
