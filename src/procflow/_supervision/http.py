"""One question to an HTTP server: what status does this page have?

Owns a minimal GET (RFC 9112) and the reading of its status line.  Must not know probes: no interval, no deadline.

Rejected: ``http.client`` (blocks), a client library (the core has no dependency for that).  Only the status line of the final answer is read; the
connection is closed after it, which a server may see as a client that went away.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream, SocketAttribute

if TYPE_CHECKING:
    import ssl

MAX_STATUS_LINE_BYTES: Final = 4096
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_PROVISIONAL: Final = re.compile(rb"\A(?:HTTP/1\.[0-9] 1[0-9]{2}(?: [^\r\n]*)?\r?\n(?:[^\r\n]+\r?\n)*\r?\n)+")
"""Answers that only say that one will come (RFC 9110, 15.2), each with its fields."""

_SENDABLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a page is; made by ``parse_address()``."""

    host: str
    port: int
    target: str
    authority: str
    is_secure: bool

    @property
    def shown(self) -> str:
        """The address without its query, which may hold secrets."""
        return f"{'https' if self.is_secure else 'http'}://{self.authority}{self.target.partition('?')[0]}"


def parse_address(url: str) -> Address:
    """Return the parts of an ``http`` or ``https`` URL.

    Raises:
        ValueError: If it is none, has a user in it, or holds characters that must be escaped.  The URL is not in the message.
    """
    if not _SENDABLE.fullmatch(url):
        raise ValueError("the URL must be visible ASCII: escape everything else")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("the URL must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a user in it is not supported")
    host = parts.hostname
    shown_host = f"[{host}]" if ":" in host else host
    default_port = DEFAULT_PORTS[parts.scheme]
    try:
        port = default_port if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError("the port of the URL must be a number from 1 to 65535")
    return Address(
        host=host,
        port=port,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        authority=shown_host if port == default_port else f"{shown_host}:{port}",
        is_secure=parts.scheme == "https",
    )


async def ask_status(address: Address, ssl_context: ssl.SSLContext | None) -> int | None:
    """Return the status that the server answers with; ``None`` if what it answers is not HTTP/1, or not whole.

    Raises:
        OSError: If it cannot be reached, or TLS fails.
    """
    try:
        if address.is_secure:
            stream: ByteStream = await anyio.connect_tcp(
                address.host, address.port, tls=True, ssl_context=ssl_context, tls_standard_compatible=False
            )
        else:
            stream = await anyio.connect_tcp(address.host, address.port)
        async with stream:
            return None if is_own_end(stream) else await _ask(stream, address)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return None


def is_own_end(stream: ByteStream) -> bool:
    """Whether a connection leads to itself; if so, its end is made abrupt, so that the port is free at once.

    While nobody listens on a port of the range that the kernel takes for the near end, it may take that very port, and the two ends
    of the connection are one (RFC 9293, 3.5: simultaneous open).
    """
    near = stream.extra(SocketAttribute.local_address, None)  # noqa: S610 (not Django's)
    if near is None or near != stream.extra(SocketAttribute.remote_address, None):  # noqa: S610
        return False
    fd = stream.extra(SocketAttribute.raw_socket).fileno()  # noqa: S610
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(fd)) as end,
    ):
        end.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # or a server could not bind for a minute
    return True


async def _ask(stream: ByteStream, address: Address) -> int | None:
    request = f"GET {address.target} HTTP/1.1\r\nHost: {address.authority}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    await stream.send(request.encode("ascii"))
    answer = b""
    while len(answer) < MAX_STATUS_LINE_BYTES:
        answer += await stream.receive()
        final = _PROVISIONAL.sub(b"", answer)
        if b"\n" in final:
            found = _STATUS_LINE.match(final)
            if found is None or found[1][0] != b"1"[0]:
                return int(found[1]) if found is not None else None
    return None
