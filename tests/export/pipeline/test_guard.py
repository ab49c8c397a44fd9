"""When a process is too large to begin another chunk."""

from __future__ import annotations

import anyio
import pytest

from procflow_export.pipeline.guard import ResidentGuard

pytestmark = pytest.mark.anyio


async def test_a_unit_waits_for_the_end_of_another() -> None:
    """E-30: above the threshold nothing begins beside a unit that runs; its end is looked at, not a clock."""
    size_bytes = 200
    guard = ResidentGuard(lambda: size_bytes)
    warnings: list[str] = []
    order: list[str] = []

    async def second() -> None:
        async with guard.admitted(100, warnings.append):
            order.append("second")

    async with anyio.create_task_group() as group:
        async with guard.admitted(0, warnings.append):
            group.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            order.append("first")
            size_bytes = 50
        await anyio.wait_all_tasks_blocked()

    assert order == ["first", "second"]
    assert warnings == []


async def test_with_nobody_to_wait_for_a_unit_runs_and_is_told_of() -> None:
    """E-30: a threshold below what a process has at rest stops no export."""
    guard = ResidentGuard(lambda: 300 << 20)
    warnings: list[str] = []

    async with guard.admitted(100 << 20, warnings.append):
        pass

    [message] = warnings
    assert "300 MiB" in message
    assert "(100)" in message


@pytest.mark.parametrize(("size_bytes", "threshold_bytes"), [(300, 0), (100, 100), (None, 100)])
async def test_units_run_together_where_nothing_is_exceeded(size_bytes: int | None, threshold_bytes: int) -> None:
    """E-30: without a threshold, at the threshold, and where the system says nothing, nobody waits."""
    guard = ResidentGuard(lambda: size_bytes)
    warnings: list[str] = []

    with anyio.fail_after(0):  # not even a checkpoint
        async with guard.admitted(threshold_bytes, warnings.append), guard.admitted(threshold_bytes, warnings.append):
            pass

    assert warnings == []


async def test_a_unit_that_fails_counts_no_longer() -> None:
    """E-30: after a failure, and after a cancelled wait, the next unit is again the only one."""
    guard = ResidentGuard(lambda: 200)
    warnings: list[str] = []

    with pytest.raises(ValueError, match="failed"):
        async with guard.admitted(100, warnings.append):
            with anyio.CancelScope() as scope:
                scope.cancel()
                async with guard.admitted(100, warnings.append):
                    raise AssertionError("never begun")
            raise ValueError("failed")
    async with guard.admitted(100, warnings.append):
        pass

    assert len(warnings) == 2
