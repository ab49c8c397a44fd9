"""A web service that runs commands and streams their output to many clients: `./run example service`.

    POST   /jobs              {"argv": ["make", "-j8"], "timeout_s": 60, "strict": false}: starts a job, and shows it
    GET    /jobs              every job that is remembered, without its output
    GET    /jobs/ID           one job: its state, and its outcome once it has ended
    GET    /jobs/ID/output    what it writes, from the beginning to the end; ?reliable=1, ?format=ndjson
    DELETE /jobs/ID           ends it, and answers when nothing of it is left

Whoever can reach the port can run commands as you.  So it listens on the loopback interface only, and refuses what a web page in a
browser could make that browser send.  Arguments, and so the secrets in them, are neither printed nor told to other clients.

Every job belongs to one task group.  Ctrl-C, SIGTERM and SIGHUP cancel it, and each job ends within the bound of its `shutdown`; a
second signal kills what is left at once.  If the service itself is killed, a strict job leaves nothing whatever it did, and another
one nothing but what took care to get away.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, MutableMapping, Sequence
from typing import Annotated, Any, Final, TypeAlias, assert_never
from urllib.parse import parse_qs

import anyio
import anyio.abc
import msgspec
import uvicorn

import procflow as pf

# Together at most about 200 MiB: 2 MiB for a running job with a reliable client that lags, 1 MiB for a job that has ended, and up
# to 4 MiB for a client that is given a megabyte of history line by line.
MAX_RUNNING: Final = 8
MAX_ENDED: Final = 32
MAX_CLIENTS: Final = 32
KEPT_BYTES: Final = 1 << 20
"""How much of the output of a job a client can have that comes late."""

BEST_EFFORT: Final = pf.BestEffort(buffer_bytes=1 << 18)
"""The job never waits; whoever is slow is told what it has missed."""

RELIABLE: Final = pf.Reliable(buffer_bytes=1 << 20, stall_timeout_s=30)
"""The job waits, but not for somebody who takes nothing for half a minute."""

MAX_BODY_BYTES: Final = 1 << 16
MAX_TIMEOUT_S: Final = 3600.0
DRAIN_S: Final = 0.5
"""How long the end of the output is waited for once the leader has exited."""

CLIENTS_S: Final = 1.0
"""How long clients may take the rest once the service stops and all jobs have ended."""

EXAMPLE: Final = '{"argv": ["sh", "-c", "for i in 1 2 3; do sleep 1; date; done"], "timeout_s": 60}'
OUT_OF_RESOURCES: Final = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /jobs``."""

    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] = 60.0
    strict: bool = False


class RefusedError(Exception):
    """A request that is answered with an error: what is wrong, where, and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Job:
    """One command, from its order until it is forgotten."""

    def __init__(self, number: int, order: Order) -> None:
        self.number = number
        self.order = order
        self.started = anyio.Event()
        """Set once it runs, or is known never to."""
        self.ended = anyio.Event()
        self.child: pf.Process | None = None
        self.refusal: pf.PlatformError | None = None
        self.failure: pf.TerminationError | None = None
        self.timed_out = False

    def report(self) -> dict[str, object]:
        """What clients are told: nothing that was ordered."""
        assert self.child is not None, "only jobs that were started are shown"
        output = self.child.stdout.statistics()
        return {
            "id": self.number,
            "state": self.child.state.value,
            "containment": self.child.containment.level,
            "clients": len(output.subscribers),
            "output_bytes": output.produced_bytes,
            "timed_out": self.timed_out,
            "outcome": outcome_report(self.child.outcome),
            "failure": self.failure and str(self.failure),
        }


def outcome_report(outcome: pf.Outcome | None) -> dict[str, object] | None:
    if outcome is None:
        return None
    return {
        "text": outcome.described,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "ended_by": outcome.ended_by.value,
        "duration_s": round(outcome.duration_s, 3),
        "output_complete": outcome.output_complete,
    }


class Service:
    """The application: an ASGI callable without a framework."""

    def __init__(self, shutdown: pf.Shutdown, hosts: frozenset[str]) -> None:
        self.ended = anyio.Event()
        """Set when every job has ended, after ``stop()``."""
        self.was_hurried = False
        # What may stand in a Host header: a page of another site that has its name point to us is not among them.
        self._hosts = hosts
        self._shutdown = shutdown
        self._jobs: dict[int, Job] = {}
        self._last_number = 0
        self._tasks: anyio.abc.TaskGroup | None = None
        self._streams: set[anyio.CancelScope] = set()
        self._is_stopping = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._own_jobs(receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except RefusedError as refused:
            await send_json(send, refused.status, {"error": refused.text})

    # --- jobs -------------------------------------------------------------------------------------------------------

    async def _own_jobs(self, receive: Receive, send: Send) -> None:
        await receive()
        async with anyio.create_task_group() as self._tasks:
            await send({"type": "lifespan.startup.complete"})
            # Cut short by our own stop(): a server waits for its clients before it says this, and they wait for the jobs.
            await receive()
            self.stop()
        self.ended.set()
        await send({"type": "lifespan.shutdown.complete"})

    def stop(self) -> None:
        """Start no job any more, and end all of them."""
        self._is_stopping = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def kill(self) -> None:
        """End the patience with jobs that are being ended."""
        self.was_hurried = True
        for job in self._running():
            with contextlib.suppress(PermissionError):  # it changed its user
                if job.child is not None:
                    job.child.send_signal(signal.SIGKILL, to=pf.Target.TREE)

    def drop_clients(self) -> None:
        """Leave those who do not take what there is for them."""
        for scope in self._streams:
            scope.cancel()

    async def _run(self, job: Job, command: pf.Command) -> None:
        """Run one job; leaving the block, whether it is over, out of time, deleted or cancelled, ends all of it."""
        try:
            async with pf.spawn(
                command,
                merge_stderr=True,
                stdout=pf.StreamConfig(replay=pf.Replay.last_bytes(KEPT_BYTES)),
                shutdown=self._shutdown,
                containment="strict" if job.order.strict else "guarded",
            ) as job.child:
                job.started.set()
                say(f"{command.name} started")
                with anyio.move_on_after(job.order.timeout_s) as clock:
                    await job.child.wait()
                job.timed_out = clock.cancelled_caught
                if not job.timed_out:
                    with anyio.move_on_after(DRAIN_S):
                        await job.child.stdout.wait_ended()
        except pf.TerminationError as failure:  # such as a process that hangs in a driver
            job.failure = failure
        except pf.PlatformError as refusal:
            job.refusal = refusal
        finally:
            job.started.set()
            job.ended.set()
            if job.child is None:
                del self._jobs[job.number]
            else:
                say(f"{job.failure or job.child.outcome}")
            for old in [known for known in self._jobs.values() if known.ended.is_set()][:-MAX_ENDED]:
                del self._jobs[old.number]

    def _running(self) -> list[Job]:
        return [job for job in self._jobs.values() if not job.ended.is_set()]

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host") not in self._hosts:
            raise RefusedError(403, f"Host: this service is called {' or '.join(sorted(self._hosts))}")
        match scope["method"], scope["path"].strip("/").split("/"):
            case "POST", ["jobs"]:
                job = await self._start(parse_order(headers, await read_body(receive)))
                await send_json(send, 201, job.report(), location=f"/jobs/{job.number}")
            case "GET", ["jobs"]:
                await send_json(send, 200, [job.report() for job in self._jobs.values() if job.child is not None])
            case "GET", ["jobs", number]:
                await send_json(send, 200, self._find(number).report())
            case "GET", ["jobs", number, "output"]:
                await self._stream(self._find(number), parse_qs(scope["query_string"].decode("latin-1")), receive, send)
            case "DELETE", ["jobs", number]:
                await send_json(send, 200, (await self._end(self._find(number))).report())
            case _:
                raise RefusedError(404, "there is POST /jobs, GET /jobs, GET and DELETE /jobs/ID, GET /jobs/ID/output")

    def _find(self, number: str) -> Job:
        job = self._jobs.get(int(number)) if number.isdecimal() else None
        if job is None or job.child is None:
            raise RefusedError(404, "there is no such job, or it was forgotten: GET /jobs lists those that are known")
        return job

    async def _start(self, order: Order) -> Job:
        if self._is_stopping or self._tasks is None:
            raise RefusedError(503, "the service is stopping: ask again when it runs")
        if len(self._running()) >= MAX_RUNNING:
            raise RefusedError(429, f"{MAX_RUNNING} jobs are running, and no more may: wait for one, or DELETE one")
        job = Job(self._last_number + 1, order)
        try:  # a name of our own, because a program's may be a secret too
            command = pf.Command(*order.argv, name=f"job {job.number}")
        except ValueError as exc:
            raise RefusedError(400, f"argv: {exc}; send arguments that a program can be given") from exc
        self._last_number = job.number
        self._jobs[job.number] = job
        self._tasks.start_soon(self._run, job, command, name=command.name)
        await job.started.wait()
        if job.refusal is not None:
            raise refusal_of(job.refusal)
        if job.child is None:
            raise RefusedError(503, "the service is stopping: ask again when it runs")
        return job

    async def _end(self, job: Job) -> Job:
        assert job.child is not None, "only jobs that were started are found"
        with contextlib.suppress(pf.UsageError, pf.TerminationError):  # it is being ended already; the report says it
            await job.child.terminate()
        await job.ended.wait()
        return job

    # --- output -----------------------------------------------------------------------------------------------------

    async def _stream(self, job: Job, query: dict[str, list[str]], receive: Receive, send: Send) -> None:
        """Send what the job writes, from the beginning to the end, or until the client is gone."""
        assert job.child is not None, "only jobs that were started are found"
        delivery = RELIABLE if parse_choice(query, "reliable", "0", "1") == "1" else BEST_EFFORT
        by_line = parse_choice(query, "format", "text", "ndjson") == "ndjson"
        if len(self._streams) >= MAX_CLIENTS:
            raise RefusedError(503, f"{MAX_CLIENTS} clients read outputs, and no more may: ask again later")
        attach = job.child.stdout.line_batches if by_line else job.child.stdout.subscribe
        try:
            reader = attach(delivery, start="start")
        except pf.HistoryLostError as exc:
            text = f"the first {exc.lost_bytes} bytes of the output were forgotten: leave out reliable=1"
            raise RefusedError(410, text) from exc
        headers = [
            (b"content-type", b"application/x-ndjson" if by_line else b"text/plain; charset=utf-8"),
            (b"x-content-type-options", b"nosniff"),
        ]
        body = text_of(reader) if isinstance(reader, pf.Subscription) else ndjson_of(reader, job)
        async with reader, contextlib.aclosing(body), anyio.create_task_group() as group:
            group.start_soon(cancel_when_gone, receive, group.cancel_scope)
            self._streams.add(group.cancel_scope)
            try:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                async for piece in body:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body"})
            finally:
                self._streams.discard(group.cancel_scope)
            group.cancel_scope.cancel()


# --- what clients send and get ------------------------------------------------------------------------------------------


async def text_of(events: pf.Subscription) -> AsyncGenerator[bytes]:
    """The output as it is; a gap is a line that no program has written."""
    ends_line = True
    try:
        async for event in events:
            match event:
                case pf.Chunk(data):
                    yield data
                    ends_line = data.endswith(b"\n")
                case pf.Gap():
                    yield b"%s[%d bytes are missing]\n" % (b"" if ends_line else b"\n", event.lost_bytes)
                    ends_line = True
                case _:
                    assert_never(event)
    except pf.StreamClosedError:  # something that got away holds the pipe: everything that was read has been sent
        return
    except pf.StallError as exc:
        yield f"\n[the rest is missing: {exc}]\n".encode()


async def ndjson_of(batches: pf.LineBatchReader[str | pf.Gap], job: Job) -> AsyncGenerator[bytes]:
    """One object a line: ``{"line": ...}``, ``{"missing": [start, stop]}``, and in the end ``{"ended": the job}``."""
    try:
        async for batch in batches:
            yield msgspec.json.Encoder().encode_lines(
                [{"missing": [item.start, item.stop]} if isinstance(item, pf.Gap) else {"line": item} for item in batch]
            )
    except pf.StreamClosedError:
        pass
    except pf.StallError as exc:
        yield msgspec.json.encode({"error": str(exc)}) + b"\n"
    await job.ended.wait()
    yield msgspec.json.encode({"ended": job.report()}) + b"\n"


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the request ended before its body did")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(413, f"the body is longer than {MAX_BODY_BYTES} bytes: put what is long into a file")
        if not message.get("more_body", False):
            return bytes(body)


def parse_order(headers: dict[str, str], body: bytes) -> Order:
    # A page of another site can make a browser send any body, but not under this type unless we agree to it.
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "content-type: must be application/json; send that header")
    try:
        return msgspec.json.decode(body, type=Order)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RefusedError(400, f"the body is no order of a job: {exc}; send one such as {EXAMPLE}") from exc


def parse_choice(query: dict[str, list[str]], name: str, *choices: str) -> str:
    """The value of a parameter; the first choice if it was not given."""
    value = query.get(name, [choices[0]])[-1]
    if value not in choices:
        raise RefusedError(400, f"{name}: must be {' or '.join(choices)}, not {value!r}")
    return value


def refusal_of(error: pf.PlatformError) -> RefusedError:
    """What the client is told whose job could not be started."""
    if not isinstance(error, pf.SpawnError):
        return RefusedError(501, f"strict: {error}; leave it out")
    if error.errno in OUT_OF_RESOURCES:
        return RefusedError(503, f"{error}; ask again later")
    hint = "" if error.suggestion else "; name a program that this machine has"
    return RefusedError(400, f"argv[0]: {error}{hint}")


async def send_json(send: Send, status: int, value: object, *, location: str = "") -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    headers += [(b"location", location.encode())] if location else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(value) + b"\n"})


def say(text: str) -> None:
    """Print a line, unless that would wait: a log that is full, or that nobody reads any more, stops neither service nor jobs."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout is not None and select.select([], [sys.stdout], [], 0)[1]:
            os.write(sys.stdout.fileno(), f"service: {text}\n".encode())


# --- the program ----------------------------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """A server that leaves the signals to us: uvicorn would wait for the clients before it tells the application."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./run example service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, help="of 127.0.0.1; 0 takes a free one (8000)")
    parser.add_argument("--grace-s", type=float, default=2.0, metavar="S", help="what SIGTERM gets to end a job (2)")
    options = parser.parse_args(argv)
    if not 0 <= options.grace_s <= MAX_TIMEOUT_S:
        parser.error(f"--grace-s must be 0 to {MAX_TIMEOUT_S:g}")
    if not 0 <= options.port < 1 << 16:
        parser.error("--port must be 0 to 65535")
    try:
        listener = socket.create_server(("127.0.0.1", options.port))
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        print(f"service: cannot listen on port {options.port}: {reason}; take another one: --port 0", file=sys.stderr)
        return 1
    with listener:
        return anyio.run(serve, listener, pf.Shutdown.sigterm(options.grace_s))


async def serve(listener: socket.socket, shutdown: pf.Shutdown) -> int:
    """Serve until a signal comes; return 0, or 130 if a second one had to hurry it."""
    port = listener.getsockname()[1]
    service = Service(shutdown, frozenset({f"127.0.0.1:{port}", f"localhost:{port}"}))
    config = uvicorn.Config(
        service,
        lifespan="on",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        limit_concurrency=4 * MAX_CLIENTS,
    )
    server = Server(config)
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*numbers) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(stop_on_signals, signals, server, service)
            say(f"listening on http://127.0.0.1:{port}, until Ctrl-C")
            say(f"curl -s http://127.0.0.1:{port}/jobs -H 'content-type: application/json' -d '{EXAMPLE}'")
            say(f"curl -sN http://127.0.0.1:{port}/jobs/1/output")
            await server.serve(sockets=[listener])
            await service.ended.wait()
            group.cancel_scope.cancel()
    say("stopped; no job is running any more")
    return 130 if service.was_hurried else 0


async def stop_on_signals(signals: AsyncIterator[int], server: Server, service: Service) -> None:
    async with anyio.create_task_group() as group:
        async for number in signals:
            if not server.should_exit:
                say(f"stopping because of {signal.Signals(number).name}; once more kills at once")
                server.should_exit = True
                service.stop()
                group.start_soon(end_patience, server, service)
            else:
                service.kill()
                server.force_exit = True


async def end_patience(server: Server, service: Service) -> None:
    """Leave clients that do not take the rest in time, once it is all there."""
    await service.ended.wait()
    await anyio.sleep(CLIENTS_S)
    service.drop_clients()
    server.force_exit = True
