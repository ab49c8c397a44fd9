"""A proxy before a real MariaDB that does what multiplexing proxies do: sessions of its own, and no session state between
transactions.

Everything but that is the server's: the bytes go through as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

HEADER_BYTES = 4
COM_QUIT, COM_QUERY, COM_RESET_CONNECTION = b"\x01", b"\x03", b"\x1f"
OK, ERROR = 0, 0xFF
PROXYSQL_QUESTION = b"select @@version_comment limit 1"
NUMBER_OFFSET = 1_000_000


@dataclass(slots=True)
class Proxy:
    """What a proxy does, and what it has seen.

    Attributes:
        url: Where it listens.
        renumbers: Whether it greets with numbers of its own.
        version: The version that it greets with; the server's by default.
        comment: What it answers to ProxySQL's question itself.
        keeps_transactions: Whether a transaction stays in one session.
        statements: What clients have said.
    """

    url: str = ""
    renumbers: bool = True
    version: bytes | None = None
    comment: bytes | None = None
    keeps_transactions: bool = True
    statements: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def mysql_proxy(url: str, proxy: Proxy) -> AsyncIterator[Proxy]:
    """Put ``proxy`` before the server of ``url``."""
    target = urlsplit(url)

    async def serve(client: SocketStream) -> None:
        # Whoever goes first, the other side is let go as well.
        with contextlib.suppress(anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with client, await anyio.connect_tcp(str(target.hostname), target.port or 0) as server:
                await _Session(proxy, client, server).run()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve, tasks)
        port = listener.extra(SocketAttribute.local_port)
        proxy.url = f"mysql://{target.username}@127.0.0.1:{port}{target.path}"
        yield proxy
        tasks.cancel_scope.cancel()


class _Session:
    """One client and the session of the server that it is given."""

    def __init__(self, proxy: Proxy, client: SocketStream, server: SocketStream) -> None:
        self._proxy = proxy
        self._client, self._to_client = BufferedByteReceiveStream(client), client
        self._server, self._to_server = BufferedByteReceiveStream(server), server
        self._resets = 0
        self._has_reset = anyio.Event()

    async def run(self) -> None:
        await self._log_in()
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_answers, tasks.cancel_scope)
            try:
                await self._pass_commands()
            except (anyio.IncompleteRead, anyio.BrokenResourceError) as exc:
                failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _log_in(self) -> None:
        header, greeting = await packet(self._server)
        version, _, rest = greeting[1:].partition(b"\0")
        number = int.from_bytes(rest[:4], "little") + (NUMBER_OFFSET if self._proxy.renumbers else 0)
        changed = greeting[:1] + (self._proxy.version or version) + b"\0" + number.to_bytes(4, "little") + rest[4:]
        await self._to_client.send(len(changed).to_bytes(3, "little") + header[3:] + changed)
        while True:
            await self._to_server.send(b"".join(await packet(self._client)))
            header, answer = await packet(self._server)
            await self._to_client.send(header + answer)
            if answer[0] in (OK, ERROR):
                return

    async def _pass_commands(self) -> None:
        is_in_transaction = False
        while True:
            header, command = await packet(self._client)
            is_first = header[3] == 0
            if is_first and command[:1] == COM_QUERY:
                self._proxy.statements.append(command[1:])
            if self._proxy.comment is not None and command == COM_QUERY + PROXYSQL_QUESTION:
                await self._to_client.send(text_result(self._proxy.comment))
                continue
            keeps = is_in_transaction and self._proxy.keeps_transactions
            if is_first and not keeps and command[:1] != COM_QUIT:
                self._resets += 1
                self._has_reset = anyio.Event()
                await self._to_server.send(b"\x01\0\0\0" + COM_RESET_CONNECTION)
                await self._has_reset.wait()
            await self._to_server.send(header + command)
            if command.startswith(COM_QUERY + b"START TRANSACTION"):
                is_in_transaction = True
            elif command.startswith((COM_QUERY + b"COMMIT", COM_QUERY + b"ROLLBACK")):
                is_in_transaction = False

    async def _pass_answers(self, everything: anyio.CancelScope) -> None:
        with contextlib.suppress(anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                header, answer = await packet(self._server)
                if self._resets:
                    self._resets -= 1
                    assert answer[0] == OK
                    self._has_reset.set()
                    continue
                await self._to_client.send(header + answer)
        everything.cancel()


async def packet(stream: BufferedByteReceiveStream) -> tuple[bytes, bytes]:
    """The next packet, header and payload."""
    header = await stream.receive_exactly(HEADER_BYTES)
    return header, await stream.receive_exactly(int.from_bytes(header[:3], "little"))


def text_result(value: bytes) -> bytes:
    """A result of one text, as a server sends it (https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html)."""
    name = b"@@version_comment"
    fixed = b"\x0c" + (33).to_bytes(2, "little") + (255).to_bytes(4, "little") + b"\xfd\0\0\x1f\0\0"
    column = b"".join(bytes([len(text)]) + text for text in (b"def", b"", b"", b"", name, name)) + fixed
    end = b"\xfe\0\0\x02\0"
    payloads = [b"\x01", column, end, bytes([len(value)]) + value, end]
    return b"".join(
        len(payload).to_bytes(3, "little") + bytes([number]) + payload
        for number, payload in enumerate(payloads, start=1)
    )
