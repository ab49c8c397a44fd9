"""Where a source is and how to log in: configuration and environment become one decided value.

Owns the rules of precedence and the care for passwords; ``model.urls`` reads the URLs.  Must not know a driver.

**Precedence.**  Exactly one of ``url``, ``url_env``, ``url_file`` or the fields says where the database is.  What the
fields leave open comes from the environment that the database's own client understands (``PGHOST`` …, ``MYSQL_HOST`` …), and
from the files that it names (``PGSERVICE``, ``PGPASSFILE``); where the configuration says nothing at all, ``DATABASE_URL`` is read
first.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import anyio.to_thread

from procflow.redaction import Secret
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.settings import SourceConfig, SourceType, TlsConfig, TlsMode
from procflow_export.model.urls import UrlParts, is_loopback, parse_url, password_of, port_number, tls_mode
from procflow_export.sources.libpq import password_in_file, with_service
from procflow_export.sources.tls import default_mode, tls_context


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """A database server and a login, everything decided.

    Attributes:
        host: Name, address, or a path: the directory of a PostgreSQL socket, the socket file of MySQL.
        port: TCP port; names the socket file in a PostgreSQL socket directory.
        user: Role to log in as.
        password: ``None`` where none was given.
        database: Database to connect to; ``None`` is the server's choice (MySQL only).
        tls: What is checked.
        ca_file: PEM file of the authorities to trust instead of the system's.
        cert_file: PEM file of the certificate that is shown when the server asks for one.
        key_file: PEM file of its key; ``None`` where it stands with the certificate.
    """

    host: str
    port: int
    user: str
    password: Secret[str] | None
    database: str | None
    tls: TlsMode
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @property
    def place(self) -> str:
        """Server and database, without login."""
        return f"{self.host}:{self.port}/{self.database or ''}"

    @property
    def is_socket(self) -> bool:
        """Whether ``host`` is a path in the file system."""
        return self.host.startswith("/")

    @property
    def is_plain(self) -> bool:
        """Whether the connection goes over a network without protection."""
        return self.tls is TlsMode.DISABLE and not self.is_socket

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know of the way there."""
        if self.is_plain and not is_loopback(self.host):
            return ("the connection is not encrypted: password and rows travel in plain text (`tls.mode` is disable)",)
        return ()


@dataclass(frozen=True, slots=True)
class _Engine:
    label: str
    schemes: tuple[str, ...]
    port: int
    host_variables: tuple[str, ...]
    port_variables: tuple[str, ...]
    user_variables: tuple[str, ...]
    password_variables: tuple[str, ...]
    database_variables: tuple[str, ...]
    tls_variables: tuple[str, ...] = ()
    ca_variables: tuple[str, ...] = ()
    cert_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()


_ENGINES: Final = {
    SourceType.POSTGRES: _Engine(
        label="PostgreSQL",
        schemes=("postgresql", "postgres"),
        port=5432,
        host_variables=("PGHOST",),
        port_variables=("PGPORT",),
        user_variables=("PGUSER",),
        password_variables=("PGPASSWORD",),
        database_variables=("PGDATABASE",),
        tls_variables=("PGSSLMODE",),
        ca_variables=("PGSSLROOTCERT",),
        cert_variables=("PGSSLCERT",),
        key_variables=("PGSSLKEY",),
    ),
    SourceType.MYSQL: _Engine(
        label="MySQL",
        schemes=("mysql", "mariadb"),
        port=3306,
        host_variables=("MYSQL_UNIX_PORT", "MYSQL_HOST"),
        port_variables=("MYSQL_TCP_PORT", "MYSQL_PORT"),
        user_variables=("MYSQL_USER",),
        password_variables=("MYSQL_PWD", "MYSQL_PASSWORD"),
        database_variables=("MYSQL_DATABASE",),
    ),
}


def server_address(config: SourceConfig, environ: Mapping[str, str]) -> ServerAddress:
    """Return where the server of a source is, from its configuration and the environment.

    Raises:
        SourceError: If something is missing, stands twice, or cannot be read; no message holds a secret.
    """
    engine = _ENGINES[config.type]
    url = source_url(config, environ)
    if url is not None:
        parts = parse_url(url, schemes=engine.schemes)
        if _has_fields(config):
            raise _invalid("a source has either a URL or the fields host, port, user, password and database, not both")
    else:
        if config.type is SourceType.POSTGRES:
            environ = with_service(environ)
        parts = _fields(config, engine, environ)
    user = parts.user
    if user is None:
        raise _invalid(f"the source has no user: set `user` or ${engine.user_variables[0]}")
    host = parts.host or "localhost"
    database = parts.database
    if database is None and config.type is SourceType.POSTGRES:
        database = user
    tls = config.tls or _tls_of(parts, host)
    port, password = parts.port or engine.port, parts.password
    if password is None and config.type is SourceType.POSTGRES and (file := environ.get("PGPASSFILE")):
        password = password_of(password_in_file(file, host=host, port=port, database=database or "", user=user))
    return ServerAddress(
        host=host,
        port=port,
        user=user,
        password=password,
        database=database,
        tls=tls.mode,
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
    )


def source_url(config: SourceConfig, environ: Mapping[str, str]) -> str | None:
    """Return the URL of a source, password included; ``None`` where fields or the environment say where it is.

    Raises:
        SourceError: If there are several, or a reference leads nowhere.
    """
    url = _url(config, environ)
    if url is None and not _has_fields(config) and config.type in _ENGINES:
        url = _database_url(_ENGINES[config.type], environ)
    return url


async def context_for(address: ServerAddress) -> ssl.SSLContext | None:
    """Return the TLS context for a server, or ``None`` for a plain connection.

    Reading the authorities takes tens of milliseconds, so a thread does it.

    Raises:
        SourceError: If a file cannot be read.
    """
    if address.is_socket or address.tls is TlsMode.DISABLE:
        return None
    make = partial(
        tls_context, address.tls, ca_file=address.ca_file, cert_file=address.cert_file, key_file=address.key_file
    )
    return await anyio.to_thread.run_sync(make)


def sqlite_path(config: SourceConfig, environ: Mapping[str, str]) -> Path:
    """Return the file of a SQLite source.

    Raises:
        SourceError: If none is named, or two are.
    """
    url = _url(config, environ)
    if config.path is not None and url is not None:
        raise _invalid("a SQLite source has either a path or a URL, not both")
    if config.path is not None:
        return Path(config.path)
    if url is None:
        raise _invalid("a SQLite source needs the `path` of its file")
    match = re.fullmatch(r"sqlite:(?://(?P<rest>/.*)|(?P<plain>[^/].*))", url, re.DOTALL)
    if match is None:
        raise _invalid("the URL of a SQLite file is `sqlite:///relative/path` or `sqlite:////absolute/path`")
    rest, plain = match.group("rest"), match.group("plain")
    return Path(unquote(plain if rest is None else rest[1:]))


def _url(config: SourceConfig, environ: Mapping[str, str]) -> str | None:
    given = [name for name in ("url", "url_env", "url_file") if getattr(config, name) is not None]
    if len(given) > 1:
        raise _invalid(f"a source has one of url, url_env and url_file, not {' and '.join(given)}")
    if config.url is not None:
        return config.url
    if config.url_env is not None:
        value = environ.get(config.url_env, "")
        if not value:
            raise _invalid(f"the environment variable {config.url_env} (url_env) is not set or empty")
        return value
    if config.url_file is not None:
        try:
            lines = Path(config.url_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise _invalid(f"the file {config.url_file} (url_file) cannot be read: {type(exc).__name__}") from exc
        url = lines[0].strip() if lines else ""
        if not url:
            raise _invalid(f"the first line of {config.url_file} (url_file) is empty")
        return url
    return None


def _database_url(engine: _Engine, environ: Mapping[str, str]) -> str | None:
    url = environ.get("DATABASE_URL", "")
    scheme = url.partition("://")[0].lower().partition("+")[0]
    return url if scheme in engine.schemes else None


def _has_fields(config: SourceConfig) -> bool:
    names = ("host", "port", "user", "password", "password_env", "database")
    return any(getattr(config, name) is not None for name in names)


def _fields(config: SourceConfig, engine: _Engine, environ: Mapping[str, str]) -> UrlParts:
    if config.password is not None and config.password_env is not None:
        raise _invalid("a source has one of password and password_env, not both")
    password = config.password if config.password is not None else _first(environ, engine.password_variables)
    if config.password_env is not None:
        password = environ.get(config.password_env)
        if not password:
            raise _invalid(f"the environment variable {config.password_env} (password_env) is not set or empty")
    return UrlParts(
        host=config.host or _first(environ, engine.host_variables),
        port=config.port or port_number(_first(environ, engine.port_variables)),
        user=config.user or _first(environ, engine.user_variables),
        password=password_of(password),
        database=config.database or _first(environ, engine.database_variables),
        tls=tls_mode(_first(environ, engine.tls_variables)),
        ca_file=_first(environ, engine.ca_variables),
        cert_file=_first(environ, engine.cert_variables),
        key_file=_first(environ, engine.key_variables),
    )


def _tls_of(parts: UrlParts, host: str) -> TlsConfig:
    mode = parts.tls or default_mode(host)
    # As PostgreSQL's own clients have it: who names an authority wants it to be checked.
    if mode is TlsMode.REQUIRE and parts.ca_file is not None:
        mode = TlsMode.VERIFY_CA
    return TlsConfig(mode=mode, ca_file=parts.ca_file, cert_file=parts.cert_file, key_file=parts.key_file)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environ.get(name))), None)


def _invalid(message: str) -> SourceError:
    return SourceError(Code.CONFIG_INVALID, message)
