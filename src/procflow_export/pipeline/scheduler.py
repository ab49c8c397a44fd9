"""The scheduler: one for all work units of a run, whole exports and chunks alike.

Owns what runs when: at most as many units as the engine takes, longest work first, at most ``parallel`` of one export;
what is tried again; and that one failed export stops no other.  An engine only executes a unit; the counting is in
``pipeline.progress``; publishing is in ``pipeline.finalise``.

Every export has one task from planning to verdict, every attempt of a unit has one, and a dispatcher starts them.  All of
them end with ``run()``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial

import anyio
import anyio.abc
import anyio.to_thread

from procflow_export.destinations import Publication
from procflow_export.engines.port import Engine
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError, ExportError, Failure, failure_from, is_expected
from procflow_export.model.events import (
    VALUES_CHANGED,
    ChunkFinished,
    Finished,
    PartWritten,
    Progress,
    Retry,
    RunStarted,
    Status,
    UnitEvent,
    Warned,
)
from procflow_export.model.plan import UnitResult, WorkUnit
from procflow_export.pipeline.connections import Connections
from procflow_export.pipeline.finalise import finalise
from procflow_export.pipeline.ledger import STATE_WARNING, Ledger
from procflow_export.pipeline.logs import get_logger
from procflow_export.pipeline.machine import Clock, peak_rss_bytes, utc_now
from procflow_export.pipeline.observer import RunObserver
from procflow_export.pipeline.outbox import Outbox
from procflow_export.pipeline.policy import RunPolicy
from procflow_export.pipeline.prepare import sweep_published
from procflow_export.pipeline.progress import ExportState
from procflow_export.pipeline.reading import Reading
from procflow_export.pipeline.sources import SharedSources
from procflow_export.pipeline.verdicts import RunResult, changes_of, sum_up, verdict_of
from procflow_export.planning.plan import ExportPlan, Target


class Scheduler:
    """Runs the exports of one run."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        run_id: str,
        started_at: datetime,
        engine: Engine,
        outbox: Outbox,
        observer: RunObserver,
        clock: Clock,
        policy: RunPolicy,
        environ: Mapping[str, str],
        ledger: Ledger,
        resume: bool = False,
        clean: Callable[[str], str] = str,
    ) -> None:
        """Prepare the run of ``targets``.

        ``clean`` takes secrets out of what servers, drivers and workers have said; ``resume`` means that finished work of the
        last run is kept.
        """
        self._run_id = run_id
        self._started_at = started_at
        self._engine = engine
        self._outbox = outbox
        self._observer = observer
        self._clock = clock
        self._policy = policy
        self._environ = environ
        self._ledger = ledger
        self._resume = resume
        self._clean = clean
        self._states = [ExportState(target=target) for target in targets]
        self._verdicts: dict[str, Finished] = {}
        self._running_count = 0
        self._is_stopping = anyio.Event()
        self._changed = anyio.Event()
        self._dirty = anyio.Event()
        self._connections = Connections(targets, max_units=engine.max_units, max_planners=policy.max_planners)
        self._stores = anyio.CapacityLimiter(policy.max_planners)
        self._log = get_logger("run").bind(run_id=run_id)

    async def run(self) -> RunResult:
        """Run every export to its verdict, and return them all."""
        await self._ledger.begin_run([state.name for state in self._states], self._engine.name)
        await self._outbox.put(
            RunStarted(
                run_id=self._run_id,
                exports=tuple(state.name for state in self._states),
                engine=self._engine.name,
                max_units=self._engine.max_units,
            )
        )
        async with anyio.create_task_group() as group:
            group.start_soon(self._show_progress, name="progress")
            group.start_soon(self._end_drain, name="drain")
            async with SharedSources(self._environ) as sources, anyio.create_task_group() as work:
                reading = self._reading(sources)
                for state in self._states:
                    work.start_soon(self._export, state, reading, name=f"export {state.name}")
                work.start_soon(self._dispatch, work, reading, name="dispatch")
            group.cancel_scope.cancel()
        return await self._finish(sources.longest_statement_s)

    def _reading(self, sources: SharedSources) -> Reading:
        return Reading(
            run_id=self._run_id,
            sources=sources,
            engine=self._engine,
            connections=self._connections,
            outbox=self._outbox,
            policy=self._policy,
            stores=self._stores,
            ledger=self._ledger,
            resume=self._resume,
            recorded=self._recorded,
            notify=self._notify,
        )

    async def _export(self, state: ExportState, reading: Reading) -> None:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._ledger.leased(state.name))
            except ExportError as exc:
                state.fail(self._recorded(state, exc))
            await reading.read(state)
            await state.settled.wait()
            await self._publish(state)

    def cancel(self) -> None:
        """Stop taking work and end what runs; every export that is not done gets the verdict ``cancelled``.

        Units that a later run can use go on for a while first, if the policy says so; a second call ends them, too.  An export
        that is being published is published: its commit is one step that is not undone.
        """
        drains = self._policy.drain_s > 0 and not self._is_stopping.is_set()
        self._is_stopping.set()
        for state in self._states:
            state.cancel(drains=drains)
            state.settle()
        self._notify()

    async def _end_drain(self) -> None:
        await self._is_stopping.wait()
        await anyio.sleep(self._policy.drain_s)
        self.cancel()

    # ---- units

    async def _dispatch(self, group: anyio.abc.TaskGroup, reading: Reading) -> None:
        with anyio.move_on_after(self._policy.head_start_s):
            while any(state.whole_cost is None and not state.is_read for state in self._states):
                await self._changed.wait()
        while not all(state.is_read for state in self._states):
            if not self._begin_next(group, reading):
                await self._changed.wait()

    def _begin_next(self, group: anyio.abc.TaskGroup, reading: Reading) -> bool:
        """Admit an export or start a unit, if there are a place and connections for one; return whether there were."""
        if self._running_count + sum(state.is_preparing for state in self._states) >= self._engine.max_units:
            return False
        return any(
            reading.admit(state) if state.waits_to_be_admitted else self._start_unit(group, state)
            for state in self._longest_first()
        )

    def _start_unit(self, group: anyio.abc.TaskGroup, state: ExportState) -> bool:
        plan = state.plan
        assert plan is not None
        account = self._connections.of(state.target.source)
        # Readers that joined a snapshot have their connections already.
        connection_count = 0 if plan.snapshot is not None and plan.snapshot.is_joined else 1
        if not account.has(connection_count):
            return False
        account.take(connection_count)
        scope = anyio.CancelScope()
        index, attempt = state.take(scope)
        unit = plan.unit(index, attempt=attempt, keeps_connection=account.may_keep)
        if state.began_ns is None:
            state.began_ns = self._clock.mono_ns()
        self._running_count += 1
        state.task_count += 1
        group.start_soon(self._unit, group, state, unit, connection_count, scope, name=f"{state.name}[{index}]")
        return True

    def _longest_first(self) -> list[ExportState]:
        """Return the exports that could use a place, those first that hold a snapshot and use none, then by work left."""
        costs = [(state.holds_idly, cost, state) for state in self._states if (cost := state.cost) is not None]
        return [state for _, _, state in sorted(costs, key=lambda item: item[:2], reverse=True)]

    async def _unit(
        self,
        group: anyio.abc.TaskGroup,
        state: ExportState,
        unit: WorkUnit,
        connection_count: int,
        scope: anyio.CancelScope,
    ) -> None:
        index, attempt = unit.index, unit.attempt
        result: UnitResult | None = None
        failure: Exception | None = None
        began_ns = self._clock.mono_ns()
        try:
            try:
                await self._ledger.begin_chunk(state, index, attempt)
                with scope:
                    result = await self._engine.execute(unit, partial(self._observe, state))
            except Exception as exc:  # noqa: BLE001 (recorded as the export's failure)
                failure = exc
            finally:
                self._running_count -= 1
                self._connections.of(state.target.source).give(connection_count)
                state.release(index)
                self._notify()
            if result is not None:
                state.complete(index, result)
                # W3: the export is settled, and a manifest made of it, only after this task has ended.
                await self._ledger.end_chunk(state, result)
                await self._tell_chunk(state, result, attempt, self._clock.elapsed_s(began_ns))
            elif failure is not None:
                await self._unit_failed(group, state, unit, failure)
        finally:
            state.task_count -= 1
            state.settle()
            self._notify()

    async def _tell_chunk(self, state: ExportState, result: UnitResult, attempts: int, elapsed_s: float) -> None:
        for part in result.parts:
            self._log.debug("part_recorded", export=state.name, key=part.key, size_bytes=part.size_bytes)
            await self._outbox.put(
                PartWritten(
                    export=state.name,
                    chunk=part.chunk,
                    key=part.key,
                    row_count=part.row_count,
                    size_bytes=part.size_bytes,
                )
            )
        await self._outbox.put(
            ChunkFinished(
                export=state.name,
                chunk=result.index,
                row_count=result.row_count,
                elapsed_s=elapsed_s,
                attempts=attempts,
            )
        )
        self._dirty.set()

    async def _unit_failed(
        self, group: anyio.abc.TaskGroup, state: ExportState, unit: WorkUnit, exc: Exception
    ) -> None:
        index, attempt = unit.index, unit.attempt
        if isinstance(exc, ExportError) and exc.code is Code.SOURCE_SNAPSHOT_LOST and unit.snapshot is not None:
            state.lose(exc)
            return
        if not self._may_try_again(state, exc, attempt):
            if state.is_reading:  # what other units die of while an export is given up is not its reason
                exc.add_note(f"chunk {index}, attempt {attempt} of {state.target.max_attempts}")
                state.fail(self._recorded(state, exc))
                await self._ledger.fail_chunk(state, index, failure_from(exc))
            return
        state.retry_count += 1
        delay_s = self._delay_s(state, exc, attempt)
        failure = failure_from(exc)
        self._log.info("unit_retried", export=state.name, chunk=index, attempt=attempt, code=failure.code.value)
        scope = state.delayed[index] = anyio.CancelScope()
        state.task_count += 1
        group.start_soon(self._put_back, state, index, delay_s, scope, name=f"{state.name}[{index}] waits")
        await self._ledger.fail_chunk(state, index, failure)
        await self._outbox.put(Retry(export=state.name, chunk=index, attempt=attempt, delay_s=delay_s, failure=failure))

    async def _put_back(self, state: ExportState, index: int, delay_s: float, scope: anyio.CancelScope) -> None:
        """Let a unit run again after its delay; it holds no place of the engine meanwhile."""
        try:
            with scope:
                await anyio.sleep(delay_s)
        finally:
            del state.delayed[index]
            state.task_count -= 1
            if state.is_reading:
                state.put_back(index)
            state.settle()
            self._notify()

    # ---- verdicts

    async def _publish(self, state: ExportState) -> None:
        await state.settled.wait()
        publication: Publication | None = None
        is_delivered = False
        plan = state.plan
        if plan is not None and state.is_active and state.skip_reason is None:
            try:
                publication = await self._finalise(state, plan)
                is_delivered = True
            except Exception as exc:  # noqa: BLE001 (recorded as the export's failure)
                state.fail(self._recorded(state, exc))
        if publication is not None and plan is not None:
            await self._ledger.published(state, plan, publication)  # W6
        if is_delivered or state.status is Status.SKIPPED:
            await self._sweep(state)
        if is_delivered:
            for change in changes_of(state):
                self._log.warning("values_changed", export=state.name, change=change)
                await self._outbox.put(Warned(export=state.name, code=VALUES_CHANGED, message=change))
        await self._put_progress(state)
        state.is_finished = True
        verdict = verdict_of(
            state,
            publication,
            run_id=self._run_id,
            elapsed_s=0.0 if state.began_ns is None else self._clock.elapsed_s(state.began_ns),
        )
        self._verdicts[state.name] = verdict
        await self._ledger.end_export(state, verdict)
        if state.state_trouble is not None:
            await self._outbox.put(Warned(export=state.name, code=STATE_WARNING, message=state.state_trouble))
        self._log.info(
            "export_finished",
            export=state.name,
            status=verdict.status.value,
            row_count=verdict.row_count,
            part_count=verdict.part_count,
            size_bytes=verdict.size_bytes,
            elapsed_s=verdict.elapsed_s,
            code=None if verdict.failure is None else verdict.failure.code.value,
        )
        await self._outbox.put(verdict)  # W7: the verdict is the last word on the export
        self._notify()

    async def _finalise(self, state: ExportState, plan: ExportPlan) -> Publication | None:
        """Publish; again after a failure that may pass, since everything is stored and publishing can be repeated."""
        finished_at = utc_now()
        attempt = 1
        while True:
            try:
                return await finalise(
                    plan,
                    state.results,
                    started_at=self._started_at,
                    finished_at=finished_at,
                    threads=self._stores,
                )
            except DestinationError as exc:
                # What another run has published stays published.
                is_final = not exc.is_transient or exc.code is Code.PUBLISHED_MEANWHILE
                if is_final or attempt >= state.target.max_attempts or not state.is_active:
                    raise
                delay_s = self._delay_s(state, exc, attempt)
                retry = Retry(
                    export=state.name, chunk=-1, attempt=attempt, delay_s=delay_s, failure=self._recorded(state, exc)
                )
            state.retry_count += 1
            attempt += 1
            await self._outbox.put(retry)
            await anyio.sleep(delay_s)

    async def _sweep(self, state: ExportState) -> None:
        """Leave nothing beside the published set."""
        is_clean = not state.retry_count and state.past.left is None
        for remark in await sweep_published(state.target, self._ledger, self._stores, is_clean=is_clean):
            await self._outbox.put(Warned(export=state.name, code=remark.code, message=remark.message))

    async def _finish(self, longest_statement_s: float) -> RunResult:
        verdicts = tuple(self._verdicts[state.name] for state in self._states)
        finished, result = sum_up(
            verdicts,
            run_id=self._run_id,
            elapsed_s=self._clock.elapsed_s(),
            peak_rss_bytes=peak_rss_bytes(),
            longest_statement_s=longest_statement_s,
        )
        self._log.info(
            "run_finished",
            status=finished.status.value,
            row_count=finished.row_count,
            elapsed_s=finished.elapsed_s,
        )
        await self._ledger.end_run(result)
        await self._outbox.put(finished)
        return result

    # ---- what all of these use

    def _may_try_again(self, state: ExportState, exc: Exception, attempt: int) -> bool:
        is_transient = isinstance(exc, ExportError) and exc.is_transient
        return is_transient and state.is_reading and attempt < state.target.max_attempts

    def _delay_s(self, state: ExportState, exc: Exception, attempt: int) -> float:
        code = exc.code if isinstance(exc, ExportError) else Code.INTERNAL
        first_backoff_s = state.target.limits.retry_backoff_ms / 1_000
        return self._policy.retry.delay_s(attempt=attempt, first_backoff_s=first_backoff_s, code=code)

    def _recorded(self, state: ExportState, exc: Exception) -> Failure:
        if not is_expected(exc):
            text = self._clean("".join(traceback.format_exception(exc)))
            self._log.error("export_failed_unexpectedly", export=state.name, traceback=text)
        return failure_from(exc).cleaned(self._clean)

    def _observe(self, state: ExportState, event: UnitEvent) -> None:
        self._observer.hear(event)
        if state.observe(event):
            self._dirty.set()

    async def _show_progress(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty = anyio.Event()
            for state in self._states:
                if not state.is_finished:
                    await self._put_progress(state)
            await anyio.sleep(self._policy.progress_interval_s)

    async def _put_progress(self, state: ExportState) -> None:
        while state.warnings:
            warning = state.warnings.popleft()
            await self._outbox.put(
                Warned(export=state.name, code=warning.code, message=warning.message, chunk=warning.chunk)
            )
        if state.dropped_warnings:
            count, state.dropped_warnings = state.dropped_warnings, 0
            await self._outbox.put(Warned(export=state.name, code="DROPPED", message=f"{count} further warnings"))
        if not state.is_dirty or state.plan is None or state.is_finished:
            return
        state.is_dirty = False
        await self._outbox.put(
            Progress(
                export=state.name,
                chunks_done=len(state.results),
                total_chunks=len(state.plan.chunks),
                row_count=state.row_count,
                size_bytes=state.size_bytes,
            )
        )

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
