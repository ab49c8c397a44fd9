"""``repair``: what it would do is said first, and a set that was made anew is right again: both manifests and the source agree."""

from __future__ import annotations

from typing import Any

import pytest

from procflow_export.checks.findings import CheckCode
from procflow_export.checks.validation import ValidationDepth
from procflow_export.model.codes import Code, ExitStatus
from procflow_export.model.reconciling import Verdict
from procflow_export.pipeline.repairing import RepairPlan, forget_cursors, plan_repairs
from procflow_export.state import open_state
from tests.export.checks.published import MODES, Sets, replaced
from tests.export.modes.sets import Clock

pytestmark = pytest.mark.anyio


async def planned(sets: Sets, mode: str, **options: Any) -> RepairPlan:
    (plan,) = await plan_repairs(sets.config(sets.export(mode)), **options)
    return plan


async def repaired(sets: Sets, mode: str, plan: RepairPlan) -> None:
    """What the command does with ``--execute``."""
    if plan.forgets_cursor:
        with open_state(None) as store:
            await forget_cursors(sets.config(sets.export(mode)), ["t"], store)
    await sets.publish(mode)


@pytest.mark.parametrize("mode", list(MODES))
async def test_a_damaged_set_of_every_mode_is_made_whole_again(sets: Sets, mode: str) -> None:
    """E-46: after the repair of a missing part or of wrong values, every depth passes and every chunk matches the source.

    The run's own manifest is right as well as the canonical one, and both name the new parts only.
    """
    await sets.publish(mode)
    sets.database.execute("INSERT INTO t VALUES (1001, 'a', '', NULL, '2026-03-10 11:00:00')")
    await sets.publish(mode)
    assert not (await planned(sets, mode)).is_needed
    (sets.directory() / sets.part().key).unlink()

    missing = await planned(sets, mode)
    old = {part.key for part in sets.manifest().parts}
    if mode == "window":  # what a window still exports anew needs no forgetting
        assert not missing.forgets_cursor
    await repaired(sets, mode, missing)
    sets.forge(lambda table: replaced(table, "cents", 3, 1))
    wrong = await planned(sets, mode)
    await repaired(sets, mode, wrong)

    assert missing.is_needed
    assert wrong.is_needed
    assert missing.exit_status is wrong.exit_status is ExitStatus.INTEGRITY
    assert {CheckCode.PART_MISSING, CheckCode.CHUNK_WRONG} <= {finding.code for finding in missing.findings}
    assert {CheckCode.VALUE_CHECKSUM, CheckCode.CHUNK_WRONG} <= {finding.code for finding in wrong.findings}
    result = await sets.validated(mode, ValidationDepth.FULL)
    assert {finding.code for finding in result.findings} <= {CheckCode.SUPERSEDED_OBJECT}
    assert {chunk.verdict for chunk in (await sets.reconciled(mode)).chunks} == {Verdict.MATCH}
    assert not old & {part.key for part in sets.manifest().parts}
    assert result.row_count == 301


@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_planning_changes_nothing(sets: Sets, mode: str) -> None:
    """E-46: without `--execute` nothing is written."""
    await sets.publish(mode)
    (sets.directory() / sets.part().key).write_bytes(b"")
    before = {path: path.read_bytes() for path in sets.root.rglob("*") if path.is_file() and "out" in path.parts}

    plan = await planned(sets, mode)

    assert plan.is_needed
    assert plan.part_count == 1
    assert plan.row_count == 300
    assert {path: path.read_bytes() for path in before} == before


async def test_what_differs_without_a_reason_is_made_anew_on_request_only(sets: Sets) -> None:
    """E-46: an undecided chunk alone is no damage; `--undecided` asks for its repair as well."""
    await sets.publish("full")
    sets.database.execute("UPDATE t SET cents = -1 WHERE id = 9")

    without, asked = await planned(sets, "full"), await planned(sets, "full", also_undecided=True)

    assert not without.is_needed
    assert without.exit_status is ExitStatus.OK
    assert asked.is_needed
    assert without.verdicts == {"undecided": 1}


async def test_a_day_before_the_window_is_not_given_up(sets: Sets, clock: Clock) -> None:
    """E-46: a damaged day that the window no longer reaches is refused: a repair would lose it, and all days before the window."""
    await sets.publish("window")
    clock.advance(days=30)
    day = sets.directory() / sets.part().key
    day.unlink()

    plan = await planned(sets, "window")

    assert plan.is_needed
    assert plan.failure is not None
    assert plan.failure.code is Code.REPAIR_NOT_POSSIBLE
    assert plan.exit_status is ExitStatus.REFUSED
