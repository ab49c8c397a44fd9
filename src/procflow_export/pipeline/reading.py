"""From an export's first question to its last row: its plan, its snapshot, and starting over on another one.

Owns when a source is asked what, and for how long a state of it is held: from the moment in which the scheduler has a place
for the export's first unit until its last unit has ended.  Exports that wait hold nothing, however many there are.  Must
not know which unit runs when, nor how parts are published.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from procflow_export.config.structs import Mode
from procflow_export.engines.port import Engine
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, Failure, SourceError, failure_from
from procflow_export.model.events import ProgressInit, Retry, Started, Warned
from procflow_export.model.plan import Query
from procflow_export.model.settings import Consistency
from procflow_export.pipeline.connections import Account, Connections
from procflow_export.pipeline.ledger import Ledger
from procflow_export.pipeline.outbox import Outbox
from procflow_export.pipeline.policy import RunPolicy
from procflow_export.pipeline.prepare import discard_parts, plan_target, prepare_past
from procflow_export.pipeline.progress import ExportState
from procflow_export.pipeline.snapshots import open_snapshot
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.keys import described
from procflow_export.planning.memory import estimated_row_bytes
from procflow_export.planning.order import measured_cost, whole_cost
from procflow_export.sources.port import SnapshotHolder

NOTHING_NEW = "nothing is new since the run before"
SPARE_READERS = 1
"""Connections that join a snapshot for retries: one that failed cannot join again."""


class Reading:
    """Plans the exports of a run and keeps their snapshots; the scheduler says when, and has the units done."""

    def __init__(
        self,
        *,
        run_id: str,
        sources: SharedSources,
        engine: Engine,
        connections: Connections,
        outbox: Outbox,
        policy: RunPolicy,
        stores: anyio.CapacityLimiter,
        ledger: Ledger,
        resume: bool,
        recorded: Callable[[ExportState, Exception], Failure],
        notify: Callable[[], None],
    ) -> None:
        self._run_id = run_id
        self._sources = sources
        self._engine = engine
        self._connections = connections
        self._outbox = outbox
        self._policy = policy
        self._stores = stores
        self._ledger = ledger
        self._resume = resume
        self._recorded = recorded
        self._notify = notify
        self._planners = anyio.CapacityLimiter(policy.max_planners)

    async def read(self, state: ExportState) -> None:
        """Have an export read; afterwards it is complete, has failed or was cancelled.  Its last units may still be ending."""
        attempt = 0
        with state.reading:
            await self._estimate(state)
            while state.is_active and not state.is_complete:
                await state.admitted.wait()
                attempt += 1
                error = await self._attempt(state)
                if error is not None and await self._may_go_on(state, error, attempt):
                    await self._start_over(state)
        state.is_read = True
        state.settle()
        self._notify()

    def admit(self, state: ExportState) -> bool:
        """Let an export be planned and read, if there are connections for it; returns at once."""
        account = self._connections.of(state.target.source)
        wanted = self._connections_of(state, account)
        if not account.has(wanted):
            return False
        account.take(wanted)
        state.granted = wanted
        state.is_preparing = True
        state.admitted.set()
        return True

    # ---- before it is admitted

    async def _estimate(self, state: ExportState) -> None:
        """Find out how much work an export is; whatever would stop it at once, stops it here."""
        target = state.target
        account = self._connections.of(target.source)
        async with self._planners:
            await self._outbox.put(
                Started(
                    run_id=self._run_id,
                    export=state.name,
                    mode=target.export.mode.value,
                    source=target.source.type.value,
                    format=target.format.format.value,
                )
            )
            attempt = 0
            while state.is_active and state.whole_cost is None:
                attempt += 1
                await account.wait_taken(1)
                try:
                    await self._look_back(state)
                    if state.skip_reason is not None:
                        return
                    async with self._sources.borrowed(target.source) as source:
                        state.price = source.snapshot_price
                        profile = await source.profile(target.selection, target.choices)
                        if state.past.work_s is not None:
                            state.whole_cost = measured_cost(target, state.past.work_s)
                        else:
                            state.whole_cost = whole_cost(
                                target,
                                row_count=profile.row_estimate,
                                row_bytes=estimated_row_bytes(profile.columns),
                            )
                    continue
                except Exception as exc:  # noqa: BLE001 (recorded as the export's failure)
                    error = exc
                finally:
                    await self._tidy(state)
                    account.give(1)
                await self._may_go_on(state, error, attempt)
        self._notify()

    async def _look_back(self, state: ExportState) -> None:
        """Find out what the runs before left, and let the state know that this one has begun."""
        past = state.past = await prepare_past(state.target, self._ledger, self._stores, resume=self._resume)
        for remark in past.remarks:
            await self._warn(state, remark.code, remark.message)
        await self._ledger.begin_export(state.target, None if past.left is None else past.left.run_id)
        if past.done_by is not None:
            state.skip_reason = f"run {past.done_by} had published it before it was cut off"

    # ---- one attempt

    async def _start_over(self, state: ExportState) -> None:
        if state.results:
            try:
                await discard_parts(state.target, self._stores)
            except ExportError as exc:
                # No manifest will name them: that they are still there is untidy, not wrong.
                await self._warn(state, exc.code.value, f"parts of a lost snapshot were not removed: {exc.message}")
        state.start_over()
        self._notify()

    async def _attempt(self, state: ExportState) -> Exception | None:
        """Have an export read; return why it is not complete, if that is not its failure already."""
        error: Exception | None
        try:
            await self._read_once(state)
        except Exception as exc:  # noqa: BLE001 (recorded as the export's failure)
            error = exc
        else:
            error = state.lost
        # What goes wrong with a snapshot that nobody needs any more is nobody's loss.
        return None if state.is_complete else error

    async def _read_once(self, state: ExportState) -> None:
        """Plan an export, in a snapshot if it has one, and wait until its units have ended."""
        target = state.target
        account = self._connections.of(target.source)
        try:
            async with self._held(state) as holder:
                plan = await plan_target(
                    target,
                    self._sources,
                    state.past.published,
                    snapshot=None if holder is None else holder.snapshot,
                    left=state.past.left,
                )
                await self._prepared(state, holder)
                for message in plan.warnings:
                    await self._warn(state, "PLAN", message)
                await self._outbox.put(
                    ProgressInit(
                        export=state.name,
                        total_chunks=len(plan.chunks),
                        row_estimate=plan.row_estimate,
                        key=described(plan.chunks.key) or None,
                        cut=plan.cut.description or None,
                    )
                )
                if plan.resumed_from is not None and state.past.left is not None:
                    state.keep(state.past.left.results)
                if plan.is_nothing_new:
                    state.skip_reason = NOTHING_NEW
                else:
                    await self._ledger.plan_export(state, plan)
                state.plan = plan
                state.is_preparing = False
                self._notify()
                try:
                    await self._until_settled(state, holder)
                finally:
                    if holder is not None:
                        state.longest_transaction_s = max(state.longest_transaction_s, holder.held_s)
        finally:
            await self._tidy(state)
            self._give_back(state, account, keep=0)
            state.is_preparing = False
            self._notify()

    @asynccontextmanager
    async def _held(self, state: ExportState) -> AsyncIterator[SnapshotHolder | None]:
        """Hold a snapshot, or nothing where none is wanted or, the user being told, none can be had."""
        target = state.target
        if not self._wants_snapshot(state):
            yield None
            return
        async with self._sources.borrowed(target.source) as source, AsyncExitStack() as stack:
            holder: SnapshotHolder | None = None
            try:
                account = self._connections.of(target.source)
                if (readers := self._readers(state, account)) < 1:
                    raise SourceError(
                        Code.SOURCE_SNAPSHOT_REFUSED,
                        f"max_connections is {account.limit}: a snapshot needs connections of its own",
                    )
                holder = await stack.enter_async_context(open_snapshot(target, source, self._engine, readers=readers))
            except SourceError as exc:
                if exc.code is not Code.SOURCE_SNAPSHOT_REFUSED or target.export.consistency is not None:
                    raise
                state.is_snapshot_refused = True
                await self._warn(state, "CONSISTENCY", f"parts may differ in time (consistency: chunk): {exc.message}")
            yield holder

    async def _prepared(self, state: ExportState, holder: SnapshotHolder | None) -> None:
        """Close what only planning needed, and give it back."""
        account = self._connections.of(state.target.source)
        if holder is not None and holder.snapshot.is_joined:
            async with self._sources.borrowed(state.target.source) as source:
                await source.leave_snapshot(holder.snapshot)
        await self._tidy(state)
        if holder is None or state.price is None:
            keep = 0
        elif state.price.is_joined:
            keep = self._readers(state, account)
        else:
            keep = state.price.holder
        self._give_back(state, account, keep=keep)

    async def _until_settled(self, state: ExportState, holder: SnapshotHolder | None) -> None:
        async with anyio.create_task_group() as tasks:
            if holder is not None:
                tasks.start_soon(self._watch, state, holder, name=f"snapshot of {state.name}")
            state.settle()
            await state.settled.wait()
            tasks.cancel_scope.cancel()

    async def _watch(self, state: ExportState, holder: SnapshotHolder) -> None:
        state.lose(await holder.wait_lost())
        state.settle()
        self._notify()

    async def _may_go_on(self, state: ExportState, error: Exception, attempt: int) -> bool:
        """Say that an export is planned again, and wait for the time of it; or give it up."""
        is_transient = isinstance(error, ExportError) and error.is_transient
        if not (is_transient and state.is_active and attempt < state.target.max_attempts):
            if state.is_active:
                state.fail(self._recorded(state, error))
            return False
        code = error.code if isinstance(error, ExportError) else Code.INTERNAL
        first_backoff_s = state.target.limits.retry_backoff_ms / 1_000
        delay_s = self._policy.retry.delay_s(attempt=attempt, first_backoff_s=first_backoff_s, code=code)
        state.retry_count += 1
        await self._outbox.put(
            Retry(export=state.name, chunk=-1, attempt=attempt, delay_s=delay_s, failure=failure_from(error))
        )
        await anyio.sleep(delay_s)
        return state.is_active

    async def _warn(self, state: ExportState, code: str, message: str) -> None:
        await self._outbox.put(Warned(export=state.name, code=code, message=message))

    async def _tidy(self, state: ExportState) -> None:
        """Close what only planning used, before it is given back; also when cancelled."""
        if self._connections.of(state.target.source).may_keep:
            return
        with anyio.CancelScope(shield=True), contextlib.suppress(ExportError):
            async with self._sources.borrowed(state.target.source) as source:
                await source.close_idle()

    # ---- connections

    def _wants_snapshot(self, state: ExportState) -> bool:
        export = state.target.export
        if state.price is None or export.consistency is Consistency.CHUNK or state.is_snapshot_refused:
            return False
        if export.mode is not Mode.FULL:
            return True
        # One reader needs no snapshot that is shared: it reads one statement, or several in a state of its own.  Where a
        # snapshot is a name, it is given one, which also tells that nobody empties the table in between.
        return not state.price.is_joined and not isinstance(state.target.selection, Query)

    def _connections_of(self, state: ExportState, account: Account) -> int:
        """Return how many connections an export takes to begin."""
        if state.price is None or not self._wants_snapshot(state) or (readers := self._readers(state, account)) < 1:
            return 1
        price = state.price
        return price.preparing + (readers if price.is_joined else price.holder)

    def _readers(self, state: ExportState, account: Account) -> int:
        """Return how many readers a snapshot may have; 0 if there are too few connections for one."""
        assert state.price is not None
        readers = min(state.target.export.parallel, self._engine.max_units)
        if state.price.is_joined:
            readers += SPARE_READERS
        if account.limit:
            readers = min(
                readers, account.limit - state.price.preparing - state.price.holder + 1 - state.price.is_joined
            )
        return max(readers, 0)

    def _give_back(self, state: ExportState, account: Account, *, keep: int) -> None:
        account.give(state.granted - keep)
        state.granted = keep
