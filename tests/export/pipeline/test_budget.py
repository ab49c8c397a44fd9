"""The memory budget that units share."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from procflow_export.pipeline.budget import MemoryBudget

pytestmark = pytest.mark.anyio


async def test_the_budget_is_never_exceeded_and_always_given_back() -> None:
    """E-30: whatever is reserved at once stays below the budget; all of it comes back."""
    budget = MemoryBudget(100)
    held = 0
    most = 0

    async def use(wanted: int) -> None:
        nonlocal held, most
        for _ in range(20):
            async with budget.reserved(wanted) as granted:
                held += granted
                most = max(most, held)
                await anyio.lowlevel.checkpoint()
                held -= granted

    async with anyio.create_task_group() as group:
        for wanted in (1, 30, 60, 99, 100, 1_000):
            group.start_soon(use, wanted)

    assert most <= 100
    assert budget.free_bytes == 100


async def test_more_than_everything_gets_everything() -> None:
    """E-30: a unit above the budget runs alone rather than never."""
    budget = MemoryBudget(10)

    async with budget.reserved(10**12) as granted:
        assert granted == 10
        assert budget.free_bytes == 0


async def test_who_asked_first_is_served_first() -> None:
    """E-30: small units do not pass a large one for ever."""
    budget = MemoryBudget(10)
    order: list[str] = []
    asked: list[str] = []

    async def use(name: str, wanted: int) -> None:
        asked.append(name)
        async with budget.reserved(wanted):
            order.append(name)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        async with budget.reserved(6):
            group.start_soon(use, "large", 10)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(use, "small", 1)
            await anyio.wait_all_tasks_blocked()
            assert (asked, order) == (["large", "small"], [])

    assert order == ["large", "small"]


async def test_who_is_cancelled_while_waiting_takes_nothing_and_blocks_nobody() -> None:
    """E-30: cancelled at every step, the budget stays whole."""
    budget = MemoryBudget(10)
    served = anyio.Event()

    async def small() -> None:
        async with budget.reserved(2):
            served.set()

    async with anyio.create_task_group() as group, budget.reserved(6):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:

                async def large() -> None:
                    async with budget.reserved(10):
                        raise AssertionError("never served")

                inner.start_soon(large)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(small)
                await anyio.wait_all_tasks_blocked()
                assert not served.is_set()
                scope.cancel()
        await served.wait()

    assert budget.free_bytes == 10


async def test_who_is_served_and_cancelled_at_once_gives_it_back() -> None:
    """E-30: the race between being served and being cancelled loses no byte."""
    budget = MemoryBudget(10)

    async with anyio.create_task_group() as group:
        holder = anyio.CancelScope()

        async def wait() -> None:
            with holder:
                async with budget.reserved(10):
                    pass

        async with budget.reserved(10):
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
        holder.cancel()

    assert budget.free_bytes == 10


def test_a_budget_has_at_least_one_byte() -> None:
    """E-30: nothing can be shared that is not there."""
    with pytest.raises(ValueError, match="at least one"):
        MemoryBudget(0)
