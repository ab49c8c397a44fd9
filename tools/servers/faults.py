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
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, assert_never
from urllib.parse import unquote, urlsplit

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
    HOLD_ANSWER = auto()
    """The store does it, and the answer never comes."""
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
    """A regular expression, found anywhere in path and query, percent signs decoded: clients differ in what they encode."""
    after: int = 0
    times: int | None = 1
    hits: int = field(default=0, init=False)
    """Requests that it has happened to."""
    _seen: int = field(default=0, init=False)

    def strikes(self, method: str, target: str) -> bool:
        if (self.method and self.method != method) or re.search(self.target, unquote(target)) is None:
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

    def __init__(self, upstream: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._transports: set[asyncio.WriteTransport] = set()
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
        with contextlib.suppress(OSError, EOFError), self._open(writer):
            request = _parsed(await reader.readuntil(b"\r\n\r\n"))
            await self._handle(request, reader, writer)

    def release(self) -> None:
        """Reset every connection: what has stalled fails now; returns before it has."""
        self._loop.call_soon_threadsafe(self.hang_up)

    def hang_up(self) -> None:
        """The same, from the proxy's own thread."""
        for transport in self._transports:
            transport.abort()

    @contextlib.contextmanager
    def _open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._transports.add(writer.transport)
        try:
            yield
        finally:
            # A reset after an answer that was read is nothing to a client; before it, it is the fault.
            self._transports.discard(writer.transport)
            writer.transport.abort()

    async def _handle(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._struck(request)
        if fault is Break.CUT_REQUEST:
            await reader.readexactly(request.length // 2)
            return
        body = await reader.readexactly(request.length)
        match fault:
            case None:
                await self._ask(request, body, writer)
                await _finish(reader, writer)
            case Answer():
                writer.write(fault.encoded(request.method))
                await _finish(reader, writer)
            case Break.STALL:
                self.stalled.set()
                await reader.read()
            case Break.HOLD_ANSWER:
                await self._ask(request, body)
                self.stalled.set()
                await reader.read()
            case Break.CUT_ANSWER:
                answer = await self._ask(request, body)
                writer.write(answer[: len(answer) // 2])
                await writer.drain()
            case Break.LOSE_ANSWER:
                await self._ask(request, body)
            case _:
                assert_never(fault)

    async def _ask(self, request: _Request, body: bytes, client: asyncio.StreamWriter | None = None) -> bytes:
        """Ask the store; pass its answer on as it comes, or return it whole where there is nobody to pass it to."""
        kept = bytearray()
        reader, writer = await asyncio.open_connection(*self._upstream)
        with self._open(writer):
            writer.write(request.head)
            writer.write(body)
            while block := await reader.read(1 << 16):
                if client is None:
                    kept += block
                else:
                    client.write(block)
                    await client.drain()
        return bytes(kept)


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
    loop = asyncio.new_event_loop()
    proxy = FaultProxy(upstream, loop)
    is_listening = threading.Event()
    is_over = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=HEAD_MAX_BYTES)
        proxy.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        is_listening.set()
        await is_over.wait()
        server.close()
        while connections := asyncio.all_tasks() - {asyncio.current_task()}:
            proxy.hang_up()
            await asyncio.wait(connections, timeout=0.01)  # one that connects to the store has nothing to reset yet

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
