"""Batches between the task that reads and the thread that encodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pyarrow as pa
import pytest

from procflow_export.model.events import UnitEvent, UnitProgress
from procflow_export.pipeline.handover import HANDOVER_BYTES, AbandonedError, Handover

pytestmark = pytest.mark.anyio

DONE = UnitProgress(export="a", chunk=0, row_count=0, size_bytes=0)


def batch(size_bytes: int) -> pa.RecordBatch:
    """Return a batch of one row that has so many bytes."""
    return pa.RecordBatch.from_arrays([pa.array([b"x" * size_bytes], pa.binary(size_bytes))], names=["c"])


async def is_waiting(call: Callable[[], Awaitable[object]]) -> bool:
    """Return whether a call does not return as things are; it is cancelled then."""
    is_done = False

    async def watched() -> None:
        nonlocal is_done
        await call()
        is_done = True

    async with anyio.create_task_group() as group:
        group.start_soon(watched)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    return not is_done


@pytest.fixture
def told() -> list[UnitEvent]:
    return []


@pytest.fixture
def handover(told: list[UnitEvent]) -> Handover:
    return Handover(told.append)


async def test_what_waits_is_bounded_by_bytes(handover: Handover) -> None:
    """E-30: the reader waits when the bytes are there, however few batches that are, and goes on when one was taken."""
    for _ in range(2):
        handover.put(batch(HANDOVER_BYTES // 2))

    assert await is_waiting(handover.wait_room)
    await handover.give(DONE)
    assert not await is_waiting(handover.wait_room)


async def test_after_a_large_batch_the_reader_waits_until_it_is_encoded(handover: Handover) -> None:
    """E-30: taken is not done: only when the encoder asks again may the next large batch be read."""
    handover.put(batch(HANDOVER_BYTES + 1))
    await handover.give(DONE)
    assert await is_waiting(handover.wait_room)

    assert await is_waiting(lambda: handover.give(DONE))
    assert not await is_waiting(handover.wait_room)


async def test_batches_come_in_order_and_then_their_end(handover: Handover, told: list[UnitEvent]) -> None:
    """E-30: each batch once, None after the last, progress each time; nothing keeps a batch that was taken."""
    batches = [batch(size) for size in (1, 2, 3)]
    for item in batches:
        handover.put(item)
    handover.end(None)
    handover.close_sending()

    taken = []
    for _ in range(4):
        await handover.give(DONE)
        taken.append(handover.given)
        handover.given = None

    assert taken == [*batches, None]
    assert handover.row_count == 3
    assert told == [DONE] * 4


async def test_a_failure_of_the_reader_comes_after_what_was_read(handover: Handover) -> None:
    """E-30: the encoding side raises what the reading side met, in its place."""
    failure = ValueError("lost")
    handover.put(batch(1))
    handover.end(failure)
    handover.close_sending()

    await handover.give(DONE)
    with pytest.raises(ValueError, match="lost") as caught:
        await handover.give(DONE)
    assert caught.value is failure
    assert handover.failure is failure


async def test_a_read_that_was_given_up_is_no_end(handover: Handover) -> None:
    """E-30: without its last item a hand-over never looks complete, for who waits already and for who comes later."""
    async with anyio.create_task_group() as group:
        group.start_soon(_close_when_idle, handover)
        with pytest.raises(AbandonedError):
            await handover.give(DONE)

    with pytest.raises(AbandonedError):
        await handover.give(DONE)


async def _close_when_idle(handover: Handover) -> None:
    await anyio.wait_all_tasks_blocked()
    handover.close_sending()
