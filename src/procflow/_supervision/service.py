"""``supervise()``: the block that keeps a service running, and its handle.

Owns how a block is left when its service fails.  Must not know how the service is driven.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypedDict, TypeVar, Unpack, overload

import anyio

from procflow._containment.requests import ContainmentRequest
from procflow._kinds import require_duration, require_instance
from procflow._process.process import Process
from procflow._process.readiness import Probe
from procflow._process.scope import SpawnScope, spawn
from procflow._process.stdio.plans import NULL, OutputChoice
from procflow._streams.consumers.crew import tell
from procflow._streams.waking import bare_interrupts
from procflow._supervision.repeatable import RepeatableStdin, require_repeatable
from procflow._supervision.restart import Restart
from procflow._supervision.service_stream import ServiceStream
from procflow._supervision.supervisor import Supervisor
from procflow._supervision.values import ServiceRun, ServiceState
from procflow.command import Command, Pipeline
from procflow.outcome import Outcome
from procflow.policies import Pty, Shutdown

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ServiceOptions(TypedDict, total=False):
    """What ``supervise()`` passes on to ``spawn()``, for every run alike; the meaning and the defaults are those of ``spawn()``."""

    stdin: RepeatableStdin
    stdout: OutputChoice | None
    stderr: OutputChoice | None
    merge_stderr: bool
    pty: Pty | None
    shutdown: Shutdown | None
    containment: ContainmentRequest


@overload
def supervise(
    command: Command | Pipeline,
    *,
    restart: Restart = ...,
    ready: None = ...,
    ready_timeout_s: float | None = ...,
    **options: Unpack[ServiceOptions],
) -> AbstractAsyncContextManager[Service[None]]: ...
@overload
def supervise(
    command: Command | Pipeline,
    *,
    restart: Restart = ...,
    ready: Probe[T],
    ready_timeout_s: float | None = ...,
    **options: Unpack[ServiceOptions],
) -> AbstractAsyncContextManager[Service[T]]: ...
def supervise(
    command: Command | Pipeline,
    *,
    restart: Restart = Restart.on_failure(),  # noqa: B008 (frozen value)
    ready: Probe[T] | None = None,
    ready_timeout_s: float | None = None,
    **options: Unpack[ServiceOptions],
) -> AbstractAsyncContextManager[Service[T]] | AbstractAsyncContextManager[Service[None]]:
    """Return a block that keeps ``command`` running, and starts it again when it fails.

    ``async with supervise(command) as service:`` starts it.  The body begins once the first process runs; whether it is ready is
    asked with ``await service.wait_ready()``.  However the block is left, the service is stopped, as with ``spawn()``.

    A run fails if it exits with anything but 0, is not ready before it exits or before ``ready_timeout_s`` has passed (then its
    tree is ended first), or cannot be started.  If the policy does not start another run after a failure, the service has failed:
    the body is cancelled, and ``ServiceFailed`` leaves the block in its place.  What is stopped on purpose is never started again.

    Args:
        command: What to run.
        restart: When it is started again, how long that waits, and when it is given up.
        ready: How to tell that a run can do its work; ``None``: as soon as it is started.
        ready_timeout_s: The most that this may take after each start.
        options: As for ``spawn()``, the same for every run.  ``stdin=PIPE`` is a new pipe for each: ``service.process.stdin``.

    Raises:
        SpawnError: On entry, if the first process cannot be started; later such a failure counts as one of a run.
        PlatformError: The same, if this system cannot give what was asked for.
        ServiceFailed: On leaving, if the service has failed; as a note if another exception propagates.
        TerminationError: On leaving, if something outlived every attempt to end it; as a note likewise.
    """
    require_instance("restart", restart, Restart)
    if ready_timeout_s is not None:
        require_duration("ready_timeout_s", ready_timeout_s, allows_zero=False)
        if ready is None:
            raise ValueError("ready_timeout_s needs a probe: ready=procflow.ready.line(...)")
    unknown = options.keys() - ServiceOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"supervise() cannot pass on {', '.join(sorted(map(repr, unknown)))}")
    require_repeatable(options.get("stdin", NULL))

    def make_scope() -> SpawnScope:
        scope = spawn(command, **options)
        assert isinstance(scope, SpawnScope)
        return scope

    make_scope()  # what is wrong with the request is said here and now
    supervisor: Supervisor[T] = Supervisor(
        command.name, make_scope, restart=restart, probe=ready, ready_timeout_s=ready_timeout_s
    )
    return _block(supervisor)


@asynccontextmanager
async def _block(supervisor: Supervisor[T]) -> AsyncIterator[Service[T]]:
    error: BaseException | None = None
    body = supervisor.body = anyio.CancelScope()
    with bare_interrupts():
        async with anyio.create_task_group() as tasks:
            # The group never sees what the body raises, except for a cancellation: it would wrap it.
            try:
                with bare_interrupts():
                    await tasks.start(supervisor.drive, name=f"procflow supervisor of {supervisor.name}")
                if supervisor.failure is None:
                    with body:
                        yield Service(supervisor)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as exc:  # noqa: BLE001 (raised again below)
                error = exc
            finally:
                supervisor.ask_stop()
    failure = supervisor.failure
    # A wait of the body may have raised it already.
    tell([failure] if failure is not None and failure is not error else [], error)
    if error is not None:
        raise error


class Service(Generic[T_co]):
    """A service that is kept running; made by ``supervise()``.

    All methods belong to the event loop of its block.
    """

    def __init__(self, supervisor: Supervisor[T_co]) -> None:
        self._supervisor = supervisor

    def __repr__(self) -> str:
        return f"<Service {self.name!r}, {self.state.value}, run {self.run_number}>"

    @property
    def name(self) -> str:
        """What errors and logs call it: the name of its command."""
        return self._supervisor.name

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""
        return self._supervisor.state

    @property
    def process(self) -> Process | None:
        """The process of the run that is under way; ``None`` between two runs and after the last."""
        return self._supervisor.process

    @property
    def run_number(self) -> int:
        """The number of the run that is under way, or of the last one; the first is 1."""
        return self._supervisor.runs

    @property
    def history(self) -> tuple[ServiceRun, ...]:
        """The last 32 runs that are over, oldest first."""
        return tuple(self._supervisor.history)

    @property
    def stdout(self) -> ServiceStream:
        """Its standard output, over all runs."""
        return self._supervisor.stdout

    @property
    def stderr(self) -> ServiceStream:
        """Its standard error, over all runs; of a pipeline there is none."""
        return self._supervisor.stderr

    async def wait_ready(self) -> T_co:
        """Return what the probe found once the service is ready, at once if it is; without a probe ``None`` once it runs.

        While it is being restarted, this waits for the next run.  Cancelling it changes nothing.

        Raises:
            ServiceFailed: If the service has failed.
            NotReadyError: If it was stopped, or has ended, without being ready.
        """
        await self._supervisor.wait_ready()
        return self._supervisor.found  # type: ignore[return-value]  # it is there while the state is READY

    async def wait(self) -> Outcome | None:
        """Return how the last run has ended once the service is over; ``None`` if that is not known.

        It is over when it was stopped, or has ended and is not started again.  Cancelling it changes nothing.

        Raises:
            ServiceFailed: If the service has failed.
            TerminationError: If something outlived every attempt to end it.
        """
        await self._supervisor.wait_over()
        if self._supervisor.failure is not None:
            raise self._supervisor.failure
        return self.history[-1].outcome if self.history else None

    async def stop(self) -> Outcome | None:
        """End the service for good and return how its last run has ended.

        A probe, a backoff and a start that waits end at once; a process is ended by ``shutdown``.  A stop goes on when the task that
        asked for it is cancelled.  Stopping it again waits for the same.

        Raises:
            ServiceFailed: If the service has failed before.
            TerminationError: If something outlived every attempt to end it.
        """
        self._supervisor.ask_stop()
        return await self.wait()

    async def restart(self) -> None:
        """End the run that is under way by ``shutdown``, and return once the next one was started, or could be.

        Waits for no backoff, and counts for no limit.  ``wait_ready()`` then waits for the new run.  A restart goes on when the
        task that asked for it is cancelled; asking again before the new run has begun waits for the same.

        Raises:
            ServiceFailed: If the service has failed.
            UsageError: If it was stopped, or has ended.
        """
        await self._supervisor.restart()
