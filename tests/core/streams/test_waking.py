"""The seam to the event loop: a flag that is waited for with a limit."""

from __future__ import annotations

import anyio
import pytest

from procflow._streams.waking import Flag

pytestmark = pytest.mark.anyio


async def test_flag_that_is_set_ends_the_wait() -> None:
    """C-64: whoever waits is woken at once, not when the limit is over."""
    flag = Flag()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(flag.wait_within, 3600.0)
            await anyio.wait_all_tasks_blocked()
            flag.set()
        await flag.wait_within(3600.0)


async def test_limit_ends_the_wait() -> None:
    """C-64: and nobody is left to be woken later."""
    flag = Flag()
    await flag.wait_within(0.0)
    await flag.wait_within(0.002)
    assert not flag.is_set()
    assert flag._bell is None or not flag._bell._sleepers
    flag.set()


async def test_cancelled_wait_leaves_nobody_behind() -> None:
    """C-64: the next wait is not disturbed."""
    flag = Flag()
    with anyio.move_on_after(0.002) as scope:
        await flag.wait_within(3600.0)
    assert scope.cancelled_caught
    assert flag._bell is None or not flag._bell._sleepers
    await flag.wait_within(0.0)
