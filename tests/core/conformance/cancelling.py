"""Cancels a call at every one of its steps, in every way that a caller can.

A *step* is a suspension of the call itself, or a turn of the event loop while it runs.  The first finds every place where the call
waits; the second also comes at moments when it was woken already but has not run yet, which is where results get lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

import procflow as pf
from procflow.testing import assert_no_leaks

WAIT_S: Final = 30.0


class How(Enum):
    """Who cancels, and when."""

    SCOPE_AT_SUSPENSION = "scope at suspension"
    SCOPE_AFTER_TURNS = "scope after turns"
    TASK_AT_SUSPENSION = "task at suspension"
    TASK_AFTER_TURNS = "task after turns"
    TIMEOUT_AT_SUSPENSION = "asyncio.timeout at suspension"

    @property
    def is_native(self) -> bool:
        """Whether only asyncio can do this."""
        return self not in (How.SCOPE_AT_SUSPENSION, How.SCOPE_AFTER_TURNS)

    @property
    def counts_turns(self) -> bool:
        """Whether steps are turns of the loop, of which there are many while a child is waited for."""
        return self in (How.SCOPE_AFTER_TURNS, How.TASK_AFTER_TURNS)


class Stepped:
    """Awaits a coroutine and calls ``act`` when it suspends for the ``at``-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], at: int, act: Callable[[], object]) -> None:
        self._coroutine = coroutine
        self._at = at
        self._act = act
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, None]:
        value, error = None, None
        while True:
            try:
                trap = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
            except StopIteration:
                return
            self.suspensions += 1
            if self.suspensions == self._at:
                self._act()
            value, error = None, None
            try:
                value = yield trap
            except BaseException as thrown:  # handed on
                error = thrown


Call = Callable[[], Coroutine[Any, Any, object]]


@dataclass
class Attempt:
    """Runs one call and cancels it at one step."""

    how: How
    step: int
    is_over: bool = field(default=False, init=False)
    """Whether the call was complete before its cancellation: no later step exists."""

    async def __call__(self, call: Call) -> None:
        """Run ``call``; return when it has returned or was cancelled, raise what else it raises."""
        with anyio.fail_after(WAIT_S):
            if self.how is How.SCOPE_AFTER_TURNS:
                await self._scope_after_turns(call)
            elif self.how is How.SCOPE_AT_SUSPENSION:
                await self._scope_at_suspension(call)
            else:
                await self._native(call)

    async def _scope_at_suspension(self, call: Call) -> None:
        with anyio.CancelScope() as scope:
            stepped = Stepped(call(), self.step, scope.cancel)
            if self.step == 0:
                scope.cancel()
            await stepped
        self.is_over = stepped.suspensions < self.step

    async def _scope_after_turns(self, call: Call) -> None:
        is_complete = False

        async def run() -> None:
            nonlocal is_complete
            await call()
            is_complete = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            for _ in range(self.step):
                if is_complete:
                    self.is_over = True
                    break
                await checkpoint()
            tasks.cancel_scope.cancel()

    async def _native(self, call: Call) -> None:
        loop = asyncio.get_running_loop()

        async def at_suspension() -> None:
            stepped = Stepped(call(), self.step, lambda: loop.call_soon(task.cancel))
            try:
                await stepped
            finally:
                self.is_over = stepped.suspensions < self.step

        async def by_timeout() -> None:
            stepped: Stepped | None = None
            try:
                async with asyncio.timeout(None) as timeout:
                    stepped = Stepped(call(), self.step, lambda: timeout.reschedule(loop.time()))
                    if self.step == 0:
                        timeout.reschedule(loop.time())
                    await stepped
            except TimeoutError:
                pass
            finally:
                self.is_over = stepped is not None and stepped.suspensions < self.step

        async def plainly() -> None:
            await call()

        runs = {How.TASK_AT_SUSPENSION: at_suspension, How.TIMEOUT_AT_SUSPENSION: by_timeout}
        task = asyncio.create_task(runs.get(self.how, plainly)())  # noqa: TID251 (native cancellation is the point)
        if self.how is How.TASK_AFTER_TURNS:
            for _ in range(self.step):
                if task.done():
                    self.is_over = True
                    break
                await asyncio.sleep(0)
            task.cancel()
        elif self.step == 0 and self.how is How.TASK_AT_SUSPENSION:
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


Case = Callable[[Attempt], Coroutine[Any, Any, None]]
CASES: Final[dict[str, Case]] = {}
COVERED: Final[dict[str, list[str]]] = {}
"""The public calls, and the cases that cancel each of them."""


def cancels(*names: str) -> Callable[[Case], Case]:
    """Say which public calls a case cancels."""

    def register(case: Case) -> Case:
        assert case.__name__ not in CASES, f"there are two cases {case.__name__}"
        CASES[case.__name__] = case
        for name in names:
            COVERED.setdefault(name, []).append(case.__name__)
        return case

    return register


async def cancel_at_every_step(case: Case, how: How) -> int:
    """Run ``case`` for each step until its call is complete before it is cancelled; return the number of steps.

    Nothing may be left behind by any of them.
    """
    step = count = 0
    while True:
        attempt = Attempt(how, step)
        async with assert_no_leaks():
            try:
                await case(attempt)
            except BaseException as error:
                error.add_note(f"cancelled by {how.value} {step}")
                raise
        count += 1
        if attempt.is_over:
            return count
        # Later turns are those in which everybody waits for a child, the longer the busier the machine is.
        step += 1 + (step // (8 if step < 64 else 2) if how.counts_turns else 0)


# --- a stream to be read while its readers are cancelled -------------------------------------------------------------

PIECES: Final = (b"li", b"ne 0\nline 1\nline", b" 2\n", b"line 3\nline 4\nli", b"ne 5")
WHOLE: Final = b"".join(PIECES)
LINES: Final = tuple(WHOLE.decode().split("\n"))


class Trickle:
    """Gives a piece every other turn."""

    def __init__(self) -> None:
        self._left = list(PIECES)

    async def receive(self) -> bytes:
        await checkpoint()
        await checkpoint()
        return self._left.pop(0) if self._left else b""

    async def aclose(self) -> None:
        await checkpoint()


def check_accounts(stream: pf.OutputStream) -> None:
    """The sums of everybody who is attached now agree."""
    numbers = stream.statistics()
    for one in numbers.subscribers:
        assert one.delivered_bytes + one.lost_bytes + one.lag_bytes == numbers.produced_bytes - one.start, one


async def rest_of(stream: pf.OutputStream) -> bytes:
    """What the next subscriber gets."""
    async with stream.subscribe() as events:
        check_accounts(stream)
        return b"".join([event.data async for event in events if isinstance(event, pf.Chunk)])


@asynccontextmanager
async def trickling() -> AsyncIterator[pf.OutputStream]:
    """A stream with a witness: afterwards nobody else may be attached, and the witness must get every byte."""
    with anyio.fail_after(WAIT_S):
        async with pf.open_stream(Trickle(), name="trickle") as stream:
            witness = stream.subscribe(pf.Reliable(), start="start", name="witness")
            yield stream
            await stream.wait_ended()
            check_accounts(stream)
            assert [one.name for one in stream.statistics().subscribers] == ["witness"]
            data = b"".join([event.data async for event in witness if isinstance(event, pf.Chunk)])
            assert data == WHOLE
            check_accounts(stream)
            witness.close()
