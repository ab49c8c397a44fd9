"""The scheduler: what runs when, what is tried again, what a failure does.

The source and the destination are real; the engine is a fake that records, delays and fails units, so that every order of
events can be made to happen.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
import pytest

from procflow_export import Code, ExitStatus, Exporter, Finished, InProcessEngine, Progress, Retry, Status, Warned
from procflow_export.model.codes import worst
from procflow_export.model.errors import DataError, ExportError, SourceError
from procflow_export.model.events import UnitEvent, UnitProgress, UnitWarning
from procflow_export.model.plan import Snapshot, UnitResult, WorkUnit
from procflow_export.model.settings import SourceConfig
from procflow_export.pipeline.policy import RetryPolicy, RunPolicy
from tests.export.pipeline.runs import NO_DELAYS, Shop, run

pytestmark = pytest.mark.anyio

Behaviour = Callable[[WorkUnit, Callable[[UnitEvent], None]], Awaitable[None]]


class ScriptedEngine:
    """An engine that does what a test says before it does the unit for real."""

    name = "scripted"

    def __init__(self, behaviour: Behaviour, *, max_units: int = 4) -> None:
        self.max_units = max_units
        self.running: list[tuple[str, int]] = []
        self.taken: list[tuple[str, int, int]] = []
        self.most_at_once = 0
        self.most_of_one = 0
        self._behaviour = behaviour
        self._inner = InProcessEngine(max_units=max_units)

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        self.taken.append((unit.export, unit.index, unit.attempt))
        self.running.append((unit.export, unit.index))
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.most_of_one = max(self.most_of_one, sum(name == unit.export for name, _ in self.running))
        try:
            await anyio.lowlevel.checkpoint()
            await self._behaviour(unit, report)
            return await self._inner.execute(unit, report)
        finally:
            self.running.remove((unit.export, unit.index))

    async def prepare_readers(self, source: SourceConfig, snapshot: Snapshot, count: int) -> None:
        await self._inner.prepare_readers(source, snapshot, count)

    async def join_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        await self._inner.join_snapshot(source, snapshot)

    async def leave_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        await self._inner.leave_snapshot(source, snapshot)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc, traceback)


async def nothing(unit: WorkUnit, report: Callable[[UnitEvent], None]) -> None:
    """Let the unit be done at once."""


def failing(times: int, error: Callable[[], Exception], *, export: str | None = None, index: int = 0) -> Behaviour:
    async def behave(unit: WorkUnit, report: Callable[[UnitEvent], None]) -> None:
        if unit.attempt <= times and unit.index == index and export in (None, unit.export):
            raise error()

    return behave


def lost() -> Exception:
    return SourceError(Code.SOURCE_CONNECTION_LOST, "the server went away")


CHUNKED = {"name": "big", "table": "big", "mode": "chunked", "chunk_count": 6, "parallel": 6}


async def test_a_transient_failure_is_tried_again_and_the_rest_goes_on(shop: Shop) -> None:
    """E-31: the unit that failed is repeated, no other, and the set is right."""
    engine = ScriptedEngine(failing(2, lost, index=3))

    ran = await run(shop.config(CHUNKED), engine=engine)

    retries = ran.of(Retry)
    assert [(event.chunk, event.attempt, event.failure.code) for event in retries] == [
        (3, 1, Code.SOURCE_CONNECTION_LOST),
        (3, 2, Code.SOURCE_CONNECTION_LOST),
    ]
    assert [attempt for _, index, attempt in engine.taken if index == 3] == [1, 2, 3]
    assert len(engine.taken) == 8
    (verdict,) = ran.result.exports
    assert (verdict.status, verdict.row_count, verdict.retry_count) == (Status.SUCCESS, shop.rows, 2)


async def test_attempts_are_counted_out(shop: Shop) -> None:
    """E-31: after the last attempt the export fails with the last reason, and "retry may help" is the exit status."""
    engine = ScriptedEngine(failing(99, lost))

    ran = await run(shop.config(CHUNKED | {"chunk_max_attempts": 3}), engine=engine)

    assert [attempt for _, index, attempt in engine.taken if index == 0] == [1, 2, 3]
    assert ran.result.exit_status is ExitStatus.RETRY
    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.notes == ("chunk 0, attempt 3 of 3",)
    assert verdict.manifest is None
    assert not [name for name in shop.files() if "manifest" in name or "SUCCESS" in name]


async def test_a_permanent_failure_is_not_tried_again(shop: Shop) -> None:
    """E-31: retry by class."""
    engine = ScriptedEngine(failing(99, lambda: SourceError(Code.SOURCE_STATEMENT_TIMEOUT, "too slow")))

    ran = await run(shop.config(CHUNKED), engine=engine)

    assert [attempt for _, index, attempt in engine.taken if index == 0] == [1]
    assert ran.of(Retry) == []
    assert ran.result.exit_status is ExitStatus.FIX


async def test_an_unexpected_error_is_our_bug_and_stops_no_other_export(shop: Shop) -> None:
    """E-61: exit status 6; its text, which may hold anything, stays in the log."""
    engine = ScriptedEngine(failing(99, lambda: ZeroDivisionError("secret"), export="bad"))

    ran = await run(shop.config({"name": "bad", "table": "big"}, {"name": "good", "table": "big"}), engine=engine)

    bad, good = ran.result.exports
    assert bad.failure is not None
    assert bad.failure.code is Code.INTERNAL
    assert "secret" not in bad.failure.message
    assert good.status is Status.SUCCESS
    assert ran.result.exit_status is ExitStatus.INTERNAL


async def test_a_failed_export_ends_its_own_units_only(shop: Shop) -> None:
    """E-31: what still runs for an export that failed is ended; other exports go on."""
    ended: list[int] = []
    all_run = anyio.Event()

    async def behave(unit: WorkUnit, report: Callable[[UnitEvent], None]) -> None:
        if unit.export == "good":
            return
        if unit.index == 0:
            await all_run.wait()
            raise DataError(Code.VALUE_REFUSED, "an odd value")
        try:
            if sum(name == "bad" for name, _ in engine.running) == 3:
                all_run.set()
            await anyio.sleep_forever()
        finally:
            ended.append(unit.index)

    engine = ScriptedEngine(behave, max_units=3)
    good = {"name": "good", "table": "empty"}

    ran = await run(shop.config(CHUNKED | {"name": "bad"}, good), engine=engine)

    assert sorted(ended) == [1, 2]
    assert [verdict.status for verdict in ran.result.exports] == [Status.FAILED, Status.SUCCESS]
    assert ran.result.exit_status is ExitStatus.REFUSED
    assert {index for name, index, _ in engine.taken if name == "bad"} == {0, 1, 2}


@pytest.mark.parametrize(("max_units", "parallel"), [(1, 6), (2, 6), (4, 2), (6, 1)])
async def test_bounds_are_kept(shop: Shop, max_units: int, parallel: int) -> None:
    """E-5, E-31: never more units than the engine takes, never more of one export than `parallel`."""
    engine = ScriptedEngine(nothing, max_units=max_units)
    exports = [CHUNKED | {"name": name, "parallel": parallel} for name in ("a", "b", "c")]

    ran = await run(shop.config(*exports), engine=engine)

    assert ran.result.exit_status is ExitStatus.OK
    assert engine.most_at_once <= max_units
    assert engine.most_of_one <= parallel
    assert len(engine.taken) == 18


async def test_the_longest_export_goes_first(shop: Shop) -> None:
    """E-31: longest first, by estimate, whatever the order of the file."""
    engine = ScriptedEngine(nothing, max_units=1)
    exports = [
        {"name": "small", "query": "select * from big limit 0", "mode": "full"},
        {"name": "empty", "table": "empty"},
        {"name": "large", "table": "big"},
    ]

    await run(shop.config(*exports[1:]), engine=engine)

    assert [name for name, _, _ in engine.taken] == ["large", "empty"]


async def test_a_unit_that_waits_for_its_retry_holds_no_place(shop: Shop) -> None:
    """E-31: back-off costs no capacity: other work runs meanwhile, and cancelling does not wait for it."""
    engine = ScriptedEngine(failing(99, lost, export="bad"), max_units=1)
    policy = RunPolicy(retry=RetryPolicy(max_backoff_s=3_600, max_extra_s=0, jitter=lambda: 1.0), head_start_s=60)
    config = shop.config(
        {"name": "bad", "table": "big", "tuning": {"retry_backoff_ms": 3_600_000}}, {"name": "good", "table": "empty"}
    )

    def stop_when_good_is_done(exporter: Exporter, event: object) -> None:
        if isinstance(event, Finished) and event.export == "good":
            exporter.cancel()

    ran = await run(config, engine=engine, policy=policy, on_event=stop_when_good_is_done)

    assert [verdict.status for verdict in ran.result.exports] == [Status.CANCELLED, Status.SUCCESS]


async def test_progress_takes_back_what_a_failed_attempt_had_done(shop: Shop) -> None:
    """E-30: rows of an attempt that failed do not count."""
    seen = anyio.Event()

    async def behave(unit: WorkUnit, report: Callable[[UnitEvent], None]) -> None:
        if unit.attempt == 1:
            report(UnitProgress(export=unit.export, chunk=0, row_count=1_000_000))
            await seen.wait()
            raise lost()

    def note(_: Exporter, event: object) -> None:
        if isinstance(event, Progress) and event.row_count >= 1_000_000:
            seen.set()

    ran = await run(shop.config({"name": "big", "table": "big"}), engine=ScriptedEngine(behave), on_event=note)

    assert max(event.row_count for event in ran.of(Progress)) >= 1_000_000
    assert ran.of(Progress)[-1].row_count == shop.rows


async def test_warnings_of_a_unit_are_shown_and_bounded(shop: Shop) -> None:
    """E-32: a worker that warns without end costs a hundred events and one that counts the rest."""

    async def behave(unit: WorkUnit, report: Callable[[UnitEvent], None]) -> None:
        for number in range(5_000):
            report(UnitWarning(export=unit.export, chunk=unit.index, code="ODD", message=str(number)))

    ran = await run(shop.config({"name": "a", "table": "empty"}), engine=ScriptedEngine(behave))

    shown = ran.of(Warned)
    assert shown[0].message == "0"
    assert shown[-1].message == "4900 further warnings"
    assert len(shown) == 101


async def test_a_slow_reader_loses_no_event_and_bounds_the_run(shop: Shop) -> None:
    """E-65: the run waits for its reader; nothing is dropped."""
    policy = RunPolicy(retry=NO_DELAYS.retry, event_buffer=1, progress_interval_s=0)
    seqs = []
    async with Exporter(shop.config(CHUNKED | {"chunk_count": 50}), policy=policy) as exporter:
        async for event in exporter.run():
            seqs.append(event.seq)
            await anyio.sleep(0)

    assert seqs == list(range(len(seqs)))
    assert exporter.result.exports[0].chunk_count == 50


@pytest.mark.stress
async def test_random_failures_in_random_order_never_change_the_result(shop: Shop) -> None:
    """E-31: whatever fails transiently and whenever, the published set is the table."""
    for seed in range(25):
        dice = random.Random(seed)
        fate = {index: dice.randrange(3) for index in range(12)}

        async def behave(
            unit: WorkUnit,
            report: Callable[[UnitEvent], None],
            dice: random.Random = dice,
            fate: dict[int, int] = fate,
        ) -> None:
            for _ in range(dice.randrange(4)):
                await anyio.lowlevel.checkpoint()
            if unit.attempt <= fate[unit.index]:
                raise lost()

        engine = ScriptedEngine(behave, max_units=dice.randrange(1, 6))
        ran = await run(shop.config(CHUNKED | {"chunk_count": 12, "parallel": dice.randrange(1, 12)}), engine=engine)

        (verdict,) = ran.result.exports
        assert (verdict.row_count, verdict.chunk_count) == (shop.rows, 12)
        assert verdict.retry_count == sum(fate.values())


def test_delays_grow_are_capped_and_spread() -> None:
    """E-31: exponential with full jitter and a cap, plus what the class of the failure needs; large attempts do not overflow."""
    policy = RetryPolicy(jitter=lambda: 1.0)
    half = RetryPolicy(jitter=lambda: 0.5)
    zero = RetryPolicy(max_backoff_s=0, max_extra_s=0)

    delays = [policy.delay_s(attempt=n, first_backoff_s=2, code=Code.SOURCE_CONNECTION_LOST) for n in range(1, 8)]

    assert delays == [2, 4, 8, 16, 32, 60, 60]
    assert half.delay_s(attempt=1, first_backoff_s=2, code=Code.SOURCE_CONNECTION_LOST) == 1
    assert policy.delay_s(attempt=10**9, first_backoff_s=2, code=Code.SOURCE_SHUTTING_DOWN) == 75
    assert zero.delay_s(attempt=9, first_backoff_s=2, code=Code.SOURCE_SHUTTING_DOWN) == 0


def test_the_worst_exit_status_wins() -> None:
    """E-61: of several failed exports the first present of 6, 3, 4, 5, 1, 2."""
    order = [6, 3, 4, 5, 1, 2]

    for position, status in enumerate(order):
        assert worst(ExitStatus(other) for other in [*reversed(order[position:]), 0]) == status
    assert worst([]) is ExitStatus.OK
    assert worst([ExitStatus.INTERRUPTED, ExitStatus.RETRY]) is ExitStatus.RETRY
    assert worst([ExitStatus.INTERRUPTED]) is ExitStatus.INTERRUPTED


def test_every_code_has_a_kind_and_tells_the_operator_what_to_do() -> None:
    """E-61: the registry is complete, and errors survive the way through another process."""
    from procflow_export.model.errors import error_from

    for code in Code:
        assert code.action.endswith(".")
        assert code.exit_status is not ExitStatus.OK
        error = ExportError(code, "why")
        error.add_note("where")
        again = error_from(error.failure())
        assert (again.code, again.message, again.__notes__, again.is_transient) == (
            code,
            "why",
            ["where"],
            code.is_transient,
        )
