"""The library's face: an exporter that runs a configuration and tells what happens.

Owns the life of one run inside a host program: it installs no signal handler, configures no logging and keeps nothing
outside the object.  Leaving the block ends everything that the run started.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from procflow_export.config.choice import chosen_config
from procflow_export.config.structs import Config, LoadedConfig
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.engines.port import Engine
from procflow_export.engines.redaction import cleaner_of, searched, secrets_of_targets, text_cleaner
from procflow_export.model.destination import DestinationType
from procflow_export.model.errors import MisuseError, PlatformError
from procflow_export.pipeline.groups import end_group
from procflow_export.pipeline.ledger import Ledger
from procflow_export.pipeline.machine import Clock, new_run_id, utc_now
from procflow_export.pipeline.observer import RunObserver, Unobserved
from procflow_export.pipeline.outbox import EventStream, Outbox
from procflow_export.pipeline.policy import RunPolicy
from procflow_export.pipeline.scheduler import Scheduler
from procflow_export.pipeline.verdicts import RunResult
from procflow_export.planning.plan import Target, targets_of
from procflow_export.state import open_state

if TYPE_CHECKING:
    from procflow.record import Run
    from procflow.redaction import Secret
    from procflow_export.pipeline.run_record import RunRecord


class Exporter:
    """Runs the exports of one configuration once; an async context manager.

    ::

        async with Exporter("shop.yaml") as exporter:
            async for event in exporter.run():
                print(event)
        print(exporter.result.exit_status)

    Leaving the block, or cancelling the task that is in it, ends everything: no task, thread, child, connection or
    unfinished file is left.  An export that was published stays published; one that was not publishes nothing.

    Runs on asyncio, uvloop included.
    """

    def __init__(
        self,
        config: LoadedConfig | Config | str | Path,
        *,
        exports: Sequence[str] | None = None,
        engine: Engine | None = None,
        params: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        policy: RunPolicy | None = None,
        run_id: str | None = None,
        record: str | os.PathLike[str] | Run | None = None,
        state: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> None:
        """Prepare a run; nothing is opened or read yet.

        Args:
            config: A file, the structs, or a configuration that was loaded before.
            exports: Names of the exports to run; all by default.
            engine: How work is spread, not yet entered; tasks of this process by default.
            params: Values for ``${NAME}`` in a file.
            environ: Environment for references in the configuration; this process's by default.
            policy: Delays and bounds.
            run_id: A UUIDv7 of the caller's own.
            record: Where the run is recorded: a directory, in which each run gets one of its own, or a run that is recorded
                already.  Everything else that procflow runs inside the block is recorded there too.
            state: Directory of the state; by default the one beside the configuration's file (``shop.state`` for ``shop.yaml``),
                and for a configuration from memory one in memory, which ends with the exporter.
            resume: Go on with what the last run left unfinished: exports that it published are left out, and finished
                chunks are kept where chunks may differ in time.
        """
        self._config = config
        self._wanted = None if exports is None else tuple(exports)
        self._engine = engine
        self._params = dict(params or {})
        self._environ = os.environ if environ is None else environ
        self._policy = policy or RunPolicy()
        self.run_id = run_id or new_run_id()
        self._record_choice = record
        self._state_choice = None if state is None else Path(state)
        self._resume = resume
        self._is_cancelled = False
        self._record: RunRecord | None = None
        self._record_stack = AsyncExitStack()
        self._group = anyio.create_task_group()
        self._exit_stack = AsyncExitStack()
        self._scheduler: Scheduler | None = None
        self._outbox: Outbox | None = None
        self._loaded: LoadedConfig | None = None
        self._targets: list[Target] = []
        self._secrets: frozenset[Secret[str]] = frozenset()
        self._started_at = utc_now()
        self._result: RunResult | None = None

    @property
    def config(self) -> LoadedConfig:
        """The checked configuration; inside the block."""
        if self._loaded is None:
            raise MisuseError("the exporter is not open: use it with `async with`")
        return self._loaded

    @property
    def record_directory(self) -> Path | None:
        """Where the record of the run is; ``None`` if it is recorded nowhere.  Inside the block, and after it."""
        return self._record.directory if self._record is not None else None

    @property
    def targets(self) -> tuple[Target, ...]:
        """The exports of the run with everything that is known before their source is asked; inside the block."""
        return tuple(self._targets)

    @property
    def result(self) -> RunResult:
        """How the run ended; after its last event.

        Raises:
            MisuseError: If the run has not ended.
        """
        if self._result is None:
            raise MisuseError("the run has not ended: read its events to the last")
        return self._result

    def run(self) -> EventStream:
        """Start the run and return its events, in order, the last one ``RunFinished``.

        A caller that reads slowly slows the run down, and never loses an event.  A failed export is an event, no
        exception.  Reading the first one raises ``StateError`` if the state cannot be used; nothing ran then.

        Raises:
            MisuseError: If the exporter is not open, or ran before; or if an export to standard output is not alone, or is not
                done by the in-process engine.
        """
        if self._loaded is None or self._engine is None:
            raise MisuseError("the exporter is not open: use it with `async with`")
        if self._outbox is not None:
            raise MisuseError("an exporter runs once: make another one")
        _refuse_stream(self._targets, self._engine)
        clock = Clock()
        observer: RunObserver = self._record or Unobserved()
        clean = text_cleaner(self._secrets)
        outbox = self._outbox = Outbox(clock, self._policy.event_buffer, observer, clean=clean)
        make_scheduler = partial(
            Scheduler,
            self._targets,
            run_id=self.run_id,
            started_at=self._started_at,
            engine=self._engine,
            outbox=outbox,
            observer=observer,
            clock=clock,
            policy=self._policy,
            environ=self._environ,
            resume=self._resume,
            clean=clean,
        )
        directory = self._state_choice or self._loaded.state_directory
        self._group.start_soon(self._run, make_scheduler, directory, outbox, name=f"run {self.run_id}")
        return outbox.events

    def cancel(self, reason: str = "the exporter was asked to stop", *, signal: str | None = None) -> None:
        """Stop the run in order: what runs is ended, exports that are not done get the verdict ``cancelled``.

        The events go on to the last one.  Does nothing before ``run()`` and after its end.  With ``RunPolicy.drain_s``, chunks
        that a later run can use go on for that long first; a second call ends them, too.

        Args:
            reason: Why, for the record.
            signal: Name of the signal that said it, if one did.
        """
        if self._outbox is None or self._result is not None:
            return
        if self._record is not None and not self._is_cancelled:
            self._record.cancel_requested(reason, signal)
        self._is_cancelled = True
        if self._scheduler is not None:
            self._scheduler.cancel()

    async def _run(self, make_scheduler: Callable[..., Scheduler], directory: Path | None, outbox: Outbox) -> None:
        failure: Exception | None = None
        try:
            with ExitStack() as opening:
                store = await anyio.to_thread.run_sync(opening.enter_context, open_state(directory))
                self._scheduler = make_scheduler(ledger=Ledger(store, self.run_id))
                if self._is_cancelled:
                    self._scheduler.cancel()
                self._result = await self._scheduler.run()
        except Exception as exc:  # noqa: BLE001 (a state that cannot be used, or a bug of ours: it reaches the reader of the events)
            failure = exc
        finally:
            outbox.close(failure)

    async def __aenter__(self) -> Self:
        if not issubclass(anyio.get_cancelled_exc_class(), asyncio.CancelledError):
            raise PlatformError("the exporter runs on asyncio: the database drivers need it")
        self._loaded = await self._load()
        self._started_at = utc_now()
        config = self._loaded.config
        self._targets = targets_of(
            self._loaded, self._wanted, run_id=self.run_id, started_at=self._started_at, environ=self._environ
        )
        self._secrets = secrets_of_targets(self._targets, self._environ)
        if self._engine is None:
            self._engine = InProcessEngine(memory_bytes=config.memory_mb << 20, environ=self._environ)
        await self._open_record()
        try:
            await self._exit_stack.enter_async_context(self._engine)
            await self._group.__aenter__()
        except BaseException:
            await self._record_stack.__aexit__(*sys.exc_info())
            raise
        return self

    async def _open_record(self) -> None:
        if self._record_choice is None:
            return
        from procflow_export.pipeline.run_record import recorded

        secrets = self._secrets
        file = self._loaded.file if self._loaded is not None else None
        self._record = await self._record_stack.enter_async_context(
            recorded(
                self._record_choice,
                run_id=self.run_id,
                secrets=searched(secrets),
                clean=cleaner_of(secrets),
                meta={} if file is None else {"export.config": str(file)},
            )
        )

    async def _load(self) -> LoadedConfig:
        load = partial(
            chosen_config, self._config, exports=self._wanted or (), params=self._params, environ=self._environ
        )
        return await anyio.to_thread.run_sync(load)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await end_group(self._group, exc_type, exc, traceback)
        finally:
            if self._outbox is not None:
                self._outbox.events.close()  # without a checkpoint: a cancellation must not skip the next line
            # The engine ends after the tasks that use it, and the record after both.
            try:
                await self._exit_stack.__aexit__(None, None, None)
            finally:
                await self._record_stack.__aexit__(exc_type, exc, traceback)


def _refuse_stream(targets: Sequence[Target], engine: Engine) -> None:
    """Refuse what standard output cannot carry: it has room for one export, and a worker's is taken by what it tells."""
    if all(target.destination.type is not DestinationType.STDOUT for target in targets):
        return
    if len(targets) > 1:
        raise MisuseError("an export to standard output runs alone: name it, and no other")
    if engine.name != InProcessEngine.NAME:
        raise MisuseError("an export to standard output is done by this process: use the in-process engine")
