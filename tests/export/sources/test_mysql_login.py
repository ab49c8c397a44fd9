"""What a server of MySQL may ask for at log-in, and what it is not told: a scripted one asks for what real ones rarely do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from pymysql.constants import CLIENT

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query
from procflow_export.model.settings import SourceConfig, SourceType
from procflow_export.sources import open_source

pytestmark = pytest.mark.anyio

PASSWORD = "canary-of-the-log-in"
NATIVE = b"mysql_native_password"
CLEAR = b"mysql_clear_password"


@pytest.mark.parametrize("plugins", [(CLEAR,), (NATIVE, CLEAR)], ids=["greeting", "switch"])
async def test_a_password_is_not_told_over_a_plain_connection(plugins: tuple[bytes, ...]) -> None:
    """E-3: a server that asks for the password itself does not get it where somebody may read along."""
    error, heard = await refusal(plugins)

    assert error.code.value == "SOURCE_TLS_FAILED"
    assert "tls.mode" in str(error)
    assert PASSWORD.encode() not in heard


async def test_a_way_to_log_in_that_the_driver_does_not_know_is_named() -> None:
    """E-1: the operator is told that another plugin is needed, and which one is not known."""
    error, heard = await refusal((NATIVE, b"client_ed25519"))

    assert error.code.value == "SOURCE_AUTH_FAILED"
    assert "client_ed25519" in str(error)
    assert PASSWORD.encode() not in heard


async def refusal(plugins: tuple[bytes, ...]) -> tuple[SourceError, bytes]:
    """Log in to a server that asks for these one after the other, and return how that ended and what the server heard."""
    heard = bytearray()
    async with asking(plugins, heard) as port:
        config = SourceConfig(type=SourceType.MYSQL, host="127.0.0.1", port=port, user="u", password=PASSWORD)
        async with open_source(config, environ={}) as source:
            with pytest.raises(SourceError) as caught:
                await source.profile(Query(text="SELECT 1 AS a"))
    return caught.value, bytes(heard)


@asynccontextmanager
async def asking(plugins: tuple[bytes, ...], heard: bytearray) -> AsyncIterator[int]:
    greeting, *switches = plugins

    async def serve(client: SocketStream) -> None:
        async with client:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await client.send(framed(0, greeted(greeting)))
                for number, plugin in enumerate(switches, 1):
                    heard.extend(await client.receive())
                    await client.send(framed(2 * number, b"\xfe" + plugin + b"\0" + bytes(20) + b"\0"))
                while True:
                    heard.extend(await client.receive())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve, tasks)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def greeted(plugin: bytes) -> bytes:
    """The first packet of MySQL 8: version, connection number, half of the salt, flags, the other half, the plugin."""
    flags = int(CLIENT.PROTOCOL_41 | CLIENT.SECURE_CONNECTION | CLIENT.PLUGIN_AUTH | CLIENT.CONNECT_WITH_DB)
    low, high = flags.to_bytes(4, "little")[:2], flags.to_bytes(4, "little")[2:]
    start = b"\x0a8.0.36\0" + b"\x07\0\0\0" + b"12345678\0"
    return start + low + b"\x2d\x02\0" + high + b"\x15" + bytes(10) + b"123456789012\0" + plugin + b"\0"


def framed(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body
