"""Servers that speak TLS, with good and bad certificates: PostgreSQL, PgBouncer and MariaDB, the real ones."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme

import procflow as pf
from procflow_export.model.settings import SourceConfig, SourceType, TlsConfig, TlsMode
from tests.export.sources.poolers import pgbouncer
from tests.export.sources.programs import (
    IN_USE,
    PORT_ATTEMPTS,
    command,
    give_away,
    needed_program,
    own_folder,
    started,
)
from tools.servers import free_port

NAMES = ("localhost", "127.0.0.1")


class Certificates:
    """An authority that tests trust, one that nobody knows, and certificates of both."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._stranger = trustme.CA()
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)
        self.ca_file.chmod(0o644)
        self._kinds: dict[str, Callable[[], trustme.LeafCert]] = {
            "good": lambda: self._authority.issue_cert(*NAMES),
            "wrong host": lambda: self._authority.issue_cert("db.example"),
            "expired": lambda: self._authority.issue_cert(*NAMES, not_before=new_year(2020), not_after=new_year(2021)),
            "not yet valid": lambda: self._authority.issue_cert(
                *NAMES, not_before=new_year(2090), not_after=new_year(2091)
            ),
            "unknown authority": lambda: self._stranger.issue_cert(*NAMES),
            "client": lambda: self._authority.issue_cert("client@example.org", common_name="postgres"),
        }

    def files(self, kind: str) -> tuple[Path, Path]:
        """The files of a certificate of this kind, and of its key."""
        stem = kind.replace(" ", "-")
        certificate, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        if not key.exists():
            made = self._kinds[kind]()
            certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
            key.touch(mode=0o600)
            made.private_key_pem.write_to_path(key)
            for file in (certificate, key):
                give_away(file)
        return certificate, key


def new_year(year: int) -> dt.datetime:
    return dt.datetime(year, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    """A server that runs.

    Attributes:
        kind: Its engine.
        port: Where it listens on loopback.
        encryption: A query whose one value, ``v``, is the version of TLS of its own connection; ``None`` where none tells.
    """

    kind: SourceType
    port: int
    encryption: str | None

    def config(self, tls: TlsConfig | None = None, *, host: str = "localhost") -> SourceConfig:
        """How to log in there as its administrator."""
        user, database = ("postgres", "postgres") if self.kind is SourceType.POSTGRES else ("root", "mysql")
        return SourceConfig(type=self.kind, host=host, port=self.port, user=user, database=database, tls=tls)


class Launch(Protocol):
    """Starts a server with a certificate; ``only`` is what it may not be without: old TLS, client certificates, TLS at all."""

    def __call__(self, certificate: str, only: str | None = None) -> AbstractAsyncContextManager[TlsServer]: ...


def tls_config(mode: TlsMode, certificates: Certificates, **more: Any) -> TlsConfig:
    """The TLS of a client that trusts the authority of the tests."""
    return TlsConfig(mode=mode, ca_file=str(certificates.ca_file), **more)


# --- PostgreSQL -----------------------------------------------------------------------------------------------------

_POSTGRES = "usr/lib/postgresql/*/bin"
_POSTGRES_ONLY: Mapping[str | None, dict[str, str]] = {
    None: {},
    "tls": {},
    "client": {},
    "old": {
        "ssl_min_protocol_version": "TLSv1",
        "ssl_max_protocol_version": "TLSv1",
        "ssl_ciphers": "ALL:@SECLEVEL=0",
    },
}
_POSTGRES_ACCESS: Mapping[str | None, str] = {
    "client": "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca",
    "tls": "hostssl all all 127.0.0.1/32 trust",
}


async def postgres_template(folder: Path) -> Path:
    """A data directory to copy."""
    initdb = needed_program("initdb", "apt-get install postgresql", folders=_POSTGRES)
    data = folder / "postgres"
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"]
    await pf.run(command(initdb, "-D", data, *options))
    return data


@asynccontextmanager
async def postgres_with_tls(
    certificates: Certificates, template: Path, certificate: str, only: str | None = None
) -> AsyncIterator[TlsServer]:
    program = needed_program("postgres", "apt-get install postgresql", folders=_POSTGRES)
    certificate_file, key_file = certificates.files(certificate)
    with own_folder() as folder:
        shutil.copytree(template, folder / "data", symlinks=True)
        if access := _POSTGRES_ACCESS.get(only):
            (folder / "data" / "pg_hba.conf").write_text(f"{access}\n")
        settings = {
            "listen_addresses": "127.0.0.1",
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": certificate_file,
            "ssl_key_file": key_file,
            "ssl_ca_file": certificates.ca_file,
        } | _POSTGRES_ONLY[only]
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        async with on_free_port(
            lambda port: started(
                program,
                "-D",
                folder / "data",
                "-k",
                folder,
                "-p",
                str(port),
                *options,
                ready="ready to accept connections",
            )
        ) as port:
            question = "SELECT version AS v FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            yield TlsServer(kind=SourceType.POSTGRES, port=port, encryption=question)


# --- PgBouncer ------------------------------------------------------------------------------------------------------

_POOLER_ONLY: Mapping[str | None, dict[str, str]] = {
    None: {"client_tls_sslmode": "allow"},
    "tls": {"client_tls_sslmode": "require"},
    "client": {"client_tls_sslmode": "verify-ca"},
    "old": {
        "client_tls_sslmode": "require",
        "client_tls_protocols": "tlsv1.0",
        "client_tls_ciphers": "ALL:@SECLEVEL=0",
    },
}


@asynccontextmanager
async def pgbouncer_with_tls(
    certificates: Certificates, url: str, certificate: str, only: str | None = None
) -> AsyncIterator[TlsServer]:
    certificate_file, key_file = certificates.files(certificate)
    settings: dict[str, Any] = {
        "client_tls_cert_file": certificate_file,
        "client_tls_key_file": key_file,
        "client_tls_ca_file": certificates.ca_file,
    }
    async with pgbouncer(url, mode="session", settings=settings | _POOLER_ONLY[only]) as pooled:
        port = int(pooled.rpartition(":")[2].partition("/")[0])
        yield TlsServer(kind=SourceType.POSTGRES, port=port, encryption=None)


# --- MariaDB --------------------------------------------------------------------------------------------------------

_MARIADB_ONLY: Mapping[str | None, list[str]] = {
    None: [],
    "tls": ["--require-secure-transport=ON"],
    "client": [],
    "old": ["--tls-version=TLSv1.0", "--ssl-cipher=ALL:@SECLEVEL=0"],
}


async def mariadb_template(folder: Path) -> Path:
    """A data directory to copy."""
    install = needed_program("mariadb-install-db", "apt-get install mariadb-server-core")
    data = folder / "mariadb"
    options = [
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--innodb-log-file-size=8M",
        f"--tmpdir={folder}",
    ]
    await pf.run(command(install, "--no-defaults", f"--datadir={data}", *options))
    return data


@asynccontextmanager
async def mariadb_with_tls(
    certificates: Certificates, template: Path, certificate: str, only: str | None = None
) -> AsyncIterator[TlsServer]:
    program = needed_program("mariadbd", "apt-get install mariadb-server-core")
    certificate_file, key_file = certificates.files(certificate)
    with own_folder() as folder:
        data = folder / "data"
        shutil.copytree(template, data, symlinks=True)
        options = [
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={folder}/socket",
            f"--tmpdir={folder}",
            "--bind-address=127.0.0.1",
            f"--ssl-cert={certificate_file}",
            f"--ssl-key={key_file}",
            f"--ssl-ca={certificates.ca_file}",
            *_MARIADB_ONLY[only],
        ]
        if only == "client":
            script = folder / "init.sql"
            script.write_text("ALTER USER root@localhost REQUIRE X509;\nFLUSH PRIVILEGES;\n")
            options.append(f"--init-file={script}")
        async with on_free_port(
            lambda port: started(program, *options, f"--port={port}", ready="ready for connections")
        ) as port:
            question = (
                "SELECT VARIABLE_VALUE AS v FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_version'"
            )
            yield TlsServer(kind=SourceType.MYSQL, port=port, encryption=question)


@asynccontextmanager
async def on_free_port(start: Callable[[int], AbstractAsyncContextManager[str | None]]) -> AsyncIterator[int]:
    """Start a server on a port that nobody has; another one, if somebody was faster."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = free_port()
        async with start(port) as said:
            if said is None:
                yield port
                return
        if attempt == PORT_ATTEMPTS or IN_USE not in said:
            pytest.fail(f"the server did not start: {said}", pytrace=False)
