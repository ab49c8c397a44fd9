"""A proxy before an object store that does what networks and stores do wrong, when it is told to.

Owns one listening port of this machine and the script of faults.  Every request is read whole, and goes on a connection of
its own, which both sides close after it: so a fault hits the request that it names and no other.

It runs in a thread with an event loop of its own, because what is under test blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, assert_never
from urllib.parse import urlsplit

HEAD_MAX_BYTES: Final = 1 << 20
_REASONS: Final = {400: "Bad Request", 403: "Forbidden", 429: "Too Many Requests", 507: "Insufficient Storage"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The proxy answers itself; the store never sees the request.  ``code`` is what the body calls the error."""

    status: int
    code: str = "InternalError"
    message: str = "an injected fault"

    def encoded(self, method: str) -> bytes:
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>".encode()
        head = (
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Error')}\r\nContent-Type: application/xml\r\n"
            f"x-ms-error-code: {self.code}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)


class Break(Enum):
    """What happens to the connection instead."""

    STALL = auto()
    """The request is read and never answered."""
    CUT_REQUEST = auto()
    """The connection is reset when half of the request is there; the store never sees it."""
    CUT_ANSWER = auto()
    """The store does it, and the connection is reset when half of the answer is sent."""
    LOSE_ANSWER = auto()
    """The store does it, and the connection is reset before any of the answer is sent."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to requests that match: to ``times`` of them after the first ``after``; to all of them with ``None``."""

    what: Answer | Break
    method: str = ""
    target: str = ""
    """A regular expression, found anywhere in path and query."""
    after: int = 0
    times: int | None = 1
    hits: int = field(default=0, init=False)
    """Requests that it has happened to."""
    _seen: int = field(default=0, init=False)

    def strikes(self, method: str, target: str) -> bool:
        if (self.method and self.method != method) or re.search(self.target, target) is None:
            return False
        self._seen += 1
        if self._seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    head: bytes
    """With ``Connection: close``."""
    length: int


class FaultProxy:
    """The proxy: ``url`` is its address, ``requests`` the method and target of what has passed or should have."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []
        self.stalled = threading.Event()
        """Set when a request stalls."""
        self.url = ""

    def inject(self, *faults: Fault) -> None:
        """Add faults to the script; a request gets the first that strikes."""
        with self._lock:
            self._faults += faults

    def clear(self) -> None:
        """Let everything pass from now on."""
        with self._lock:
            self._faults.clear()

    def _struck(self, request: _Request) -> Answer | Break | None:
        with self._lock:
            self.requests.append((request.method, request.target))
            return next((it.what for it in self._faults if it.strikes(request.method, request.target)), None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection, which carries one request."""
        with contextlib.suppress(OSError, EOFError):
            try:
                request = _parsed(await reader.readuntil(b"\r\n\r\n"))
                await self._handle(request, reader, writer)
            finally:
                # A reset after an answer that was read is nothing to a client; before it, it is the fault.
                writer.transport.abort()

    async def _handle(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._struck(request)
        if fault is Break.CUT_REQUEST:
            await reader.readexactly(request.length // 2)
            return
        body = await reader.readexactly(request.length)
        match fault:
            case None:
                async for block in self._asked(request, body):
                    writer.write(block)
                    await writer.drain()
                await _finish(reader, writer)
            case Answer():
                writer.write(fault.encoded(request.method))
                await _finish(reader, writer)
            case Break.STALL:
                self.stalled.set()
                await reader.read()
            case Break.CUT_ANSWER:
                answer = b"".join([block async for block in self._asked(request, body)])
                writer.write(answer[: len(answer) // 2])
                await writer.drain()
            case Break.LOSE_ANSWER:
                _ = [block async for block in self._asked(request, body)]
            case _:
                assert_never(fault)

    async def _asked(self, request: _Request, body: bytes) -> AsyncGenerator[bytes, None]:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request.head)
            writer.write(body)
            while block := await reader.read(1 << 16):
                yield block
        finally:
            writer.transport.abort()


async def _finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the end of the answer, and wait until the client has seen it."""
    writer.write_eof()
    await writer.drain()
    await reader.read()


def _parsed(head: bytes) -> _Request:
    start, *lines = head[:-4].split(b"\r\n")
    method, target, _ = start.decode("latin-1").split(" ")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    assert b"transfer-encoding" not in fields, "obstore knows how long its requests are"
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    closing = b"\r\n".join([start, *kept, b"Connection: close", b"", b""])
    return _Request(method, target, closing, int(fields.get(b"content-length", b"0")))


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Give a proxy before the server at ``upstream`` (``http://host:port``, a path is ignored); no fault is there at first."""
    proxy = FaultProxy(upstream)
    is_listening = threading.Event()
    loop = asyncio.new_event_loop()
    is_over = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=HEAD_MAX_BYTES)
        proxy.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        is_listening.set()
        await is_over.wait()
        server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def work() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(run())

    thread = threading.Thread(target=work, name="fault-proxy")
    thread.start()
    is_listening.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
