"""The turn that readers take with their large rows."""

from __future__ import annotations

import anyio
import pytest

from procflow_export.sources.turns import LARGE_BYTES, WARY_PIECES, LargeTurn, Reader

pytestmark = pytest.mark.anyio


async def test_a_large_row_is_worked_on_alone() -> None:
    """E-30: while one reader works on a large row, others neither work on one nor ask for more; then they go on."""
    first, second, third = Reader(), Reader(), Reader()
    order: list[str] = []
    await first.received(LARGE_BYTES)

    async def receive() -> None:
        await second.received(LARGE_BYTES)
        order.append("received")

    async def ask() -> None:
        await third.before_asking()
        order.append("asked")

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        first.done()
        await anyio.wait_all_tasks_blocked()
        assert order == ["received"]
        second.done()

    assert order == ["received", "asked"]


async def test_small_rows_wait_for_nobody_who_has_none() -> None:
    """E-30: readers that never saw a large row ask at the same time."""
    readers = [Reader() for _ in range(3)]

    for reader in readers:
        with anyio.fail_after(0):  # not even a checkpoint
            await reader.before_asking()
    for reader in readers:
        with anyio.fail_after(0):
            await reader.received(LARGE_BYTES - 1)


async def test_a_reader_expects_more_large_rows_for_a_while() -> None:
    """E-30: after a large row a reader takes the turn before it asks, until enough small pieces have come."""
    wary, other = Reader(), Reader(is_wary=True)
    await wary.received(LARGE_BYTES)
    wary.done()
    passed = 0

    async with anyio.create_task_group() as group:
        for _ in range(WARY_PIECES):
            await wary.before_asking()
            with anyio.CancelScope() as scope:
                group.start_soon(other.before_asking)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
            passed += 1
            await wary.received(1)
            await anyio.wait_all_tasks_blocked()
            other.done()

    await other.before_asking()
    with anyio.fail_after(0):
        await wary.before_asking()  # though somebody has the turn
    assert passed == WARY_PIECES


async def test_who_asked_first_has_the_next_turn() -> None:
    """E-30: turns go round in the order in which they were asked for."""
    turn = LargeTurn()
    readers = [Reader() for _ in range(4)]
    order: list[int] = []

    async def take(number: int) -> None:
        await turn.take(readers[number])
        order.append(number)
        turn.give_back(readers[number])

    await turn.take(readers[0])
    await turn.take(readers[0])  # whoever has it has it
    async with anyio.create_task_group() as group:
        for number in (1, 2, 3):
            group.start_soon(take, number)
            await anyio.wait_all_tasks_blocked()
        turn.give_back(readers[2])  # who has not got it gives nothing back
        await anyio.wait_all_tasks_blocked()
        assert order == []
        turn.give_back(readers[0])

    assert order == [1, 2, 3]
    assert turn.holder is None


@pytest.mark.parametrize("is_served", [False, True])
async def test_who_is_cancelled_while_waiting_keeps_no_turn(is_served: bool) -> None:
    """E-30: cancelled before its turn came, or at the very moment: the next one gets it."""
    turn, holder, leaving, next_one = LargeTurn(), Reader(), Reader(), Reader()
    scope = anyio.CancelScope()

    async def leave() -> None:
        with scope:
            await turn.take(leaving)
            turn.give_back(leaving)  # served before the cancellation came

    await turn.take(holder)
    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(turn.take, next_one)
        await anyio.wait_all_tasks_blocked()
        if is_served:
            turn.give_back(holder)
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        turn.give_back(holder)

    assert turn.holder is next_one
