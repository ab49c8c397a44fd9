"""Every cell of the table "what escapes at which level"."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow.testing import Hostile, HostileTree, hostile_tree
from tests.core.containment.level_hosts import NOBODY, ROOT, everybodys_copy, other_python, running_host, wait_gone
from tests.core.containment.levels import HELD_BY_BLOCK, HELD_BY_DEATH, LEVELS

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


@pytest.mark.parametrize(("level", "member"), CELLS)
def test_death_of_the_host(level: str, member: Hostile, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """C-80, C-82, C-84: who is gone after SIGKILL of the host."""
    with hostile_tree(member) as tree:
        with running_host(level, [tree], backend=name_of(anyio_backend)) as host:
            host.send_signal(signal.SIGKILL)
            host.wait()
            require_left_by_death(tree, level, member)


@pytest.mark.root
@pytest.mark.parametrize(("level", "member"), CELLS)
def test_death_of_the_host_of_another_user(level: str, member: Hostile, everybodys: Path) -> None:
    """C-80, C-82, C-84: the same without any privilege."""
    with hostile_tree(member, python="/usr/bin/python3") as tree:
        with running_host(level, [tree], prefix=NOBODY, folder=everybodys) as host:
            assert os.stat(f"/proc/{host.pid}").st_uid == 65534
            host.send_signal(signal.SIGKILL)
            host.wait()
            require_left_by_death(tree, level, member)


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


def require_left_by_death(tree: HostileTree, level: str, member: Hostile) -> None:
    if level == "group":
        assert None in {survivor.member for survivor in tree.survivors()}, "nobody ends the leader"
    elif member in HELD_BY_DEATH[level]:
        assert wait_gone(tree) == []
    else:
        left = wait_gone(tree, keeps=1)
        assert {survivor.member for survivor in left} == {member}


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
