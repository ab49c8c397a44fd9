"""Connection URLs: what one says, read once for the rules of a configuration and for whoever connects.

Owns the reading and the care for passwords.  Pure; must not know a driver.

**Passwords in URLs** may hold any character, unescaped.  A URL is first read as the standard has it; when that leaves an
``@`` in its path, before a query that is none, or no valid port, the user part is taken to reach to the last ``@``.  Percent escapes are decoded.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

from procflow.redaction import Secret
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.settings import TlsMode

_ADDRESS: Final = re.compile(
    r"(?P<host>\[[^\]]+\]|[^/?#@:\[\]]*)(?::(?P<port>\d+))?(?:/(?P<path>[^?#]*))?(?:\?(?P<query>[^#]*))?", re.DOTALL
)
_OPTIONS: Final = frozenset(
    [
        "host",
        "port",
        "user",
        "password",
        "dbname",
        "unix_socket",
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "application_name",
        "fallback_application_name",
        "client_encoding",
        "charset",
        "options",
        "connect_timeout",
        "target_session_attrs",
    ]
)
"""Options that a URL may have; a query with an ``@`` and other words in it is the rest of a password."""
_WEAK_TLS: Final = frozenset({"allow", "prefer", "preferred", "true", "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlParts:
    """What was said about the place; ``None`` where nothing was."""

    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: Secret[str] | None = None
    database: str | None = None
    tls: TlsMode | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


def parse_url(url: str, *, schemes: tuple[str, ...]) -> UrlParts:
    """Return what a connection URL says.

    Raises:
        SourceError: If it is not a URL of one of these schemes; the message does not repeat it.
    """
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower().partition("+")[0]
    if not separator or scheme not in schemes:
        raise _invalid(f"the connection URL must begin with {schemes[0]}://")
    userinfo, address = _split_user(rest)
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise _invalid(
            "the connection URL cannot be read: its port must be a number, its user and password percent-encoded"
        )
    user, colon, in_user = userinfo.partition(":")
    query = dict(parse_qsl(match.group("query") or "", keep_blank_values=True))
    host = query.get("host") or query.get("unix_socket") or unquote(match.group("host")).strip("[]")
    mode = query.get("sslmode") or query.get("ssl-mode")
    return UrlParts(
        host=host or None,
        port=port_number(match.group("port") or query.get("port")),
        user=unquote(user) or query.get("user"),
        password=password_of(unquote(in_user) if colon else query.get("password")),
        database=unquote(match.group("path") or "") or query.get("dbname"),
        tls=tls_mode(mode),
        ca_file=query.get("sslrootcert") or query.get("ssl-ca"),
        cert_file=query.get("sslcert") or query.get("ssl-cert"),
        key_file=query.get("sslkey") or query.get("ssl-key"),
    )


def password_of(text: str | None) -> Secret[str] | None:
    """Return ``text`` as a secret; an empty password is none.

    Raises:
        SourceError: If it is no text that could be sent, or nothing but line ends.
    """
    if not text:
        return None
    # A secret must not have its value for a name, and a password may be any word.
    name = next(name for name in ("source", "login") if name != text.rstrip("\r\n"))
    try:
        return Secret(text, name=name)
    except ValueError:
        raise _invalid("the password of the source is no text that could be sent") from None


def _split_user(rest: str) -> tuple[str, str]:
    """Cut what follows the scheme into user part and address."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, host = authority.rpartition("@")
    address = host + rest[len(authority) :]
    path, _, query = address.partition("?")
    keys = {pair.partition("=")[0] for pair in query.split("&") if "@" in query}
    if "@" not in path and keys <= _OPTIONS and _ADDRESS.fullmatch(address):
        return userinfo, address
    userinfo, at, address = rest.rpartition("@")
    return (userinfo, address) if at else ("", rest)


def tls_mode(name: str | None) -> TlsMode | None:
    """Return the mode that a URL or the environment names; one that permits plain text decides nothing.

    Raises:
        SourceError: If there is no such mode.
    """
    if name is None or name.lower() in _WEAK_TLS:
        return None
    normal = name.lower().replace("_", "-")
    aliases = {"disabled": "disable", "required": "require", "verify-identity": "verify-full"}
    try:
        return TlsMode(aliases.get(normal, normal))
    except ValueError as exc:
        raise _invalid("sslmode must be disable, require, verify-ca or verify-full") from exc


def is_loopback(host: str) -> bool:
    """Return whether a host can only be this machine: a loopback address, ``localhost`` or the path of a socket."""
    if host.startswith("/") or host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def port_number(text: str | None) -> int | None:
    """Return the TCP port that a text names; ``None`` for no text.

    Raises:
        SourceError: If it is no port.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65_536:
        raise _invalid("the port of the source must be a number from 1 to 65535")
    return int(text)


def _invalid(message: str) -> SourceError:
    return SourceError(Code.CONFIG_INVALID, message)
