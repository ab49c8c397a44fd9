"""Bytes of a result on their way from a real socket into the buffer that is searched, without a database."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import anyio
import anyio.lowlevel
import pytest
import trustme

from procflow_export.sources.mysql.decoding.packets import scan
from procflow_export.sources.mysql.receiving import WANTED_BYTES, Receiver
from tests.export.sources.mysql_rows import LARGEST, packets, payloads_of

pytestmark = pytest.mark.anyio

EOF = b"\xfe\0\0\x02\0"
ERROR = b"\xff\x15\x04#28000Access denied"
MIB = 1024 * 1024

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
def contexts(
    request: pytest.FixtureRequest, authority: trustme.CA
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """What server and client speak."""
    if request.param == "plain":
        return None, None
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def served(
    serve: Serve,
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None),
    *,
    greeting: bytes = b"hello",
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.Transport]]:
    """A connection whose reader has read a greeting; what it read beyond that is for whoever goes on."""
    is_over, handled = asyncio.Event(), asyncio.Event()
    failures = []

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(greeting)
            await serve(writer)
            # The end of the connection must not be what tells the end of a result.
            await is_over.wait()
        except OSError:
            pass
        except Exception as exc:
            failures.append(exc)
        writer.transport.abort()
        handled.set()

    on_server, on_client = contexts
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=on_server)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=on_client, server_hostname="localhost" if on_client else None
    )
    assert await reader.readexactly(5) == b"hello"
    try:
        yield reader, cast("asyncio.Transport", writer.transport)  # uvloop's are none by class
    finally:
        is_over.set()
        writer.transport.abort()
        await handled.wait()
        server.close()
        await server.wait_closed()
        await anyio.lowlevel.checkpoint()
    assert not failures


def taken_over(reader: asyncio.StreamReader, transport: asyncio.Transport) -> Receiver:
    buffer: bytearray = reader._buffer  # type: ignore[attr-defined]
    received = bytes(buffer)
    buffer.clear()
    return Receiver(transport, received)


async def everything(receiver: Receiver, sequence: int = 5) -> tuple[list[bytes], bytes | None]:
    """The rows and the ending; no ending where the connection was lost."""
    rows: list[bytes] = []
    while await receiver.wait():
        found = scan(receiver.data, receiver.size, sequence)
        rows += payloads_of(receiver.take(found.row_bytes, found.needed_bytes))
        sequence = found.next_sequence
        if found.ending is not None:
            return rows, found.ending
    return rows, None


def sent(*parts: bytes) -> Serve:
    async def serve(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return serve


@pytest.mark.parametrize("piece_bytes", [7, 1000, 30_000, 10 * MIB])
@pytest.mark.parametrize("ending", [EOF, ERROR])
async def test_every_row_arrives_whatever_the_pieces(
    piece_bytes: int, ending: bytes, contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None]
) -> None:
    """E-23: rows arrive in order, each once, with the end of the result, with and without TLS."""
    rows = [bytes([row % 250]) * (row * 37 % 5000 + 1) for row in range(2000 if piece_bytes > 100 else 20)]
    wire = packets([*rows, ending])
    pieces = [wire[at : at + piece_bytes] for at in range(0, len(wire), piece_bytes)]

    async with served(sent(*pieces), contexts) as (reader, transport):
        receiver = taken_over(reader, transport)
        found = await everything(receiver)

    assert found == (rows, ending)


async def test_what_came_with_the_greeting_is_not_lost() -> None:
    """E-23: rows that the driver's reader has received already are part of the result."""
    wire = packets([b"\x01one", b"\x01two", EOF])

    for split in (0, 1, 9, len(wire)):
        async with served(sent(wire[split:]), greeting=b"hello" + wire[:split]) as (reader, transport):
            assert await everything(taken_over(reader, transport)) == ([b"\x01one", b"\x01two"], EOF)


async def test_a_reader_that_is_slow_makes_the_server_wait() -> None:
    """E-30: a full buffer stops the reading, so that the kernels' buffers fill and the server waits; taking begins it again."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(packets([b"\0" * 1020]) * 64)
            await writer.drain()

    async with served(serve) as (reader, transport):
        receiver = taken_over(reader, transport)
        for _ in range(3):
            assert await receiver.wait()
            while transport.is_reading():
                await anyio.lowlevel.checkpoint()
            full = receiver.size
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert receiver.size == full <= 2 * WANTED_BYTES
            receiver.take(full, full)
            assert transport.is_reading()


async def test_a_row_longer_than_the_buffer_gets_room_and_gives_it_back() -> None:
    """E-23: one row of several packets is held whole, and its room is let go with it."""
    long = b"\x01" + bytes(2 * LARGEST)
    rows = [b"\x01a", long, b"\x01b", *[b"\x02" * 500] * 5000]

    async with served(sent(packets([*rows, EOF]))) as (reader, transport):
        receiver = taken_over(reader, transport)
        room = len(receiver.data)
        found = await everything(receiver)
        assert len(receiver.data) == room

    assert found == (rows, EOF)


async def test_a_lost_connection_is_told_after_what_came_before() -> None:
    """E-31: rows that came whole are given out, and the loss is no end of the result."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(packets([b"\x01one", b"\x01two"]) + b"\x09\0\0\x07half")
        await writer.drain()
        writer.close()

    async with served(serve) as (reader, transport):
        assert await everything(taken_over(reader, transport)) == ([b"\x01one", b"\x01two"], None)
        assert reader.at_eof()


async def test_a_wait_may_be_cancelled_and_begun_again() -> None:
    """E-34: cancelling leaves nothing behind, and loses nothing."""
    go_on = asyncio.Event()

    async def serve(writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(packets([b"\x01one", EOF]))
        await writer.drain()

    async with served(serve) as (reader, transport):
        receiver = taken_over(reader, transport)
        for _ in range(3):
            with anyio.move_on_after(0) as scope:
                await receiver.wait()
            assert scope.cancelled_caught
        go_on.set()
        assert await everything(receiver) == ([b"\x01one"], EOF)


async def test_after_the_result_the_driver_reads_on() -> None:
    """E-1: the connection serves the next statement, which the driver reads itself."""
    answered = asyncio.Event()

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(packets([b"\x01one", EOF]))
        await writer.drain()
        await answered.wait()
        writer.write(b"next answer")
        await writer.drain()

    async with served(serve) as (reader, transport):
        receiver = taken_over(reader, transport)
        assert await everything(receiver) == ([b"\x01one"], EOF)
        receiver.stop()
        answered.set()
        assert await reader.readexactly(11) == b"next answer"
