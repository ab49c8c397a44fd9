"""Who answers a connection: which product, which version, and whether a proxy stands before it.

Owns what is made of the answers.  Pure: ``session`` asks.

**How proxies are seen.**  A proxy logs in to the server itself and greets its clients with a connection number of its own, so
that the server, asked through it, says another number than the greeting did: that tells ProxySQL, MaxScale, RDS Proxy and their
like from a server, and from a balancer that only copies bytes, which changes nothing for us.  Two of them say who they are:
ProxySQL answers one question itself, as its source does (``select @@version_comment limit 1``, byte for byte); MaxScale may have
its name in the version of the greeting.  The version of a greeting is the proxy's to choose, so the server is asked for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError

MIN_MYSQL: Final = (5, 7)
MIN_MARIADB: Final = (10, 6)
ANY_PROXY: Final = "a proxy"

_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)")
_CONNECTION_NUMBERS: Final = 2**32
"""A greeting has room for so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is known of whoever answers.

    Attributes:
        product: ``MySQL`` or ``MariaDB``.
        version: Its version without what its builders added: ``8.0.36``.
        proxy: What stands before it, in words; ``None`` where nothing does.
    """

    product: str
    version: str
    proxy: str | None

    @property
    def is_mariadb(self) -> bool:
        """Whether it speaks MariaDB's dialect."""
        return self.product == "MariaDB"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know of the way to it."""
        if self.proxy is None:
            return ()
        warning = (
            f"{self.proxy} stands before {self.product}: every read is one transaction with our settings in it, and the proxy's"
            " own rules and limits decide which server answers and for how long"
        )
        return (warning,)


def server_of(
    *, greeting: str, greeting_number: int, version: str, connection_number: int, comment: str = ""
) -> Server:
    """Return who answers.

    Args:
        greeting: The version that the connection was greeted with.
        greeting_number: The connection's number in that greeting.
        version: What the server says to ``VERSION()``.
        connection_number: What it says to ``CONNECTION_ID()``.
        comment: What was said to ProxySQL's question; only asked where the numbers differ.
    """
    is_mariadb = "mariadb" in version.lower()
    proxy = None
    if connection_number % _CONNECTION_NUMBERS != greeting_number or "maxscale" in greeting.lower():
        named = [name for name in ("ProxySQL", "MaxScale") if name.lower() in f"{comment} {greeting}".lower()]
        proxy = named[0] if named else ANY_PROXY
    return Server(product="MariaDB" if is_mariadb else "MySQL", version=version.partition("-")[0], proxy=proxy)


def require_supported(server: Server) -> None:
    """Refuse a server that is older than what we read from.

    A version that cannot be read is let pass: forks number as they like.

    Raises:
        SourceError: If it is.
    """
    needed = MIN_MARIADB if server.is_mariadb else MIN_MYSQL
    numbers = _NUMBERS.match(server.version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < needed:
        raise SourceError(
            Code.SOURCE_NOT_SUPPORTED,
            f"{server.product} {server.version} is too old: {'.'.join(map(str, needed))} or later is needed",
        )
