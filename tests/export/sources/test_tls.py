"""TLS with real servers: what each mode accepts and refuses, and what the operator is told to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query
from procflow_export.model.settings import SourceConfig, SourceType, TlsConfig, TlsMode
from procflow_export.sources import open_source
from procflow_export.sources.connection import server_address
from tests.export.sources.conftest import LOOPS
from tests.export.sources.databases import MariaDatabase, PostgresDatabase, read, values
from tests.export.sources.mysql_proxy import packet
from tests.export.sources.programs import own_folder
from tests.export.sources.tls_servers import (
    Certificates,
    Launch,
    TlsServer,
    mariadb_template,
    mariadb_with_tls,
    pgbouncer_with_tls,
    postgres_template,
    postgres_with_tls,
    tls_config,
)

pytestmark = pytest.mark.anyio

ENCRYPTED = (TlsMode.REQUIRE, TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)


@pytest.fixture
def anyio_backend() -> str:
    """One loop, where nothing else is said: the certificates are the subject."""
    return "asyncio"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with own_folder() as found:
        yield found


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    return Certificates(folder)


@pytest.fixture(scope="module")
def templates(folder: Path) -> dict[str, Path]:
    """Data directories, made when the first test asks."""
    return {}


@pytest.fixture(params=["postgres", "pgbouncer", "mariadb"])
def launch(
    request: pytest.FixtureRequest, certificates: Certificates, folder: Path, templates: dict[str, Path]
) -> Launch:
    """Starts a server of each kind."""
    kind: str = request.param
    if kind == "pgbouncer":
        return partial(pgbouncer_with_tls, certificates, request.getfixturevalue("postgres_url"))
    if kind not in templates:
        make = {"postgres": postgres_template, "mariadb": mariadb_template}[kind]
        templates[kind] = anyio.run(make, folder)
    start: Any = {"postgres": postgres_with_tls, "mariadb": mariadb_with_tls}[kind]
    result: Launch = partial(start, certificates, templates[kind])
    return result


async def encryption(server: TlsServer, config: SourceConfig) -> str | None:
    """The version of TLS that a source's connection has, or ``"unknown"`` where the server does not tell."""
    async with open_source(config, environ={}) as source:
        if server.encryption is None:
            assert values(await read(source, Query(text="SELECT 1 AS v")), "v") == [1]
            return "unknown"
        (version,) = values(await read(source, Query(text=server.encryption)), "v")
        return version or None


async def refusal(config: SourceConfig) -> SourceError:
    """How a source fails; the password is not in it."""
    async with open_source(config, environ={}) as source:
        with pytest.raises(SourceError) as caught:
            await source.profile(Query(text="SELECT 1 AS a"))
    return caught.value


def advice(error: SourceError) -> str:
    return " ".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_every_mode_is_encrypted_with_a_good_certificate(launch: Launch, certificates: Certificates) -> None:
    """E-3: require, verify-ca and verify-full, by name and by address; TLS 1.2 or later."""
    async with launch("good", "tls") as server:
        for mode in ENCRYPTED:
            for host in ("localhost", "127.0.0.1"):
                config = server.config(tls_config(mode, certificates), host=host)
                assert await encryption(server, config) in ("unknown", "TLSv1.2", "TLSv1.3"), (mode, host)


async def test_disable_is_plain_and_a_server_may_refuse_it(launch: Launch, certificates: Certificates) -> None:
    """E-3: loopback is plain by default; a server that takes no plain connection is told from a wrong password."""
    async with launch("good") as server:
        for tls in (None, TlsConfig(mode=TlsMode.DISABLE)):
            assert await encryption(server, server.config(tls)) in ("unknown", None)

    async with launch("good", "tls") as server:
        assert "`tls.mode`" in advice(await refusal(server.config()))


REFUSED = [
    ("wrong host", (TlsMode.VERIFY_FULL,), "by a name that the server's certificate has"),
    ("expired", (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL), "renew the server's certificate"),
    ("not yet valid", (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL), "check the clocks"),
    ("unknown authority", (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL), "in `tls.ca_file`"),
]


@pytest.mark.parametrize(("certificate", "refusing", "what_to_do"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_what_a_mode_checks_is_refused_when_it_is_wrong(
    launch: Launch, certificates: Certificates, certificate: str, refusing: tuple[TlsMode, ...], what_to_do: str
) -> None:
    """E-3: host name, dates and authority are checked by the modes that promise it, and the error says what to do."""
    async with launch(certificate) as server:
        for mode in ENCRYPTED:
            config = server.config(tls_config(mode, certificates))
            if mode in refusing:
                error = await refusal(config)
                assert error.code.value == "SOURCE_TLS_FAILED", (mode, error)
                assert not error.is_transient
                assert what_to_do in advice(error), (mode, error, advice(error))
            else:
                assert await encryption(server, config) is not None, mode


async def test_an_authority_of_the_system_is_needed_where_none_is_named(
    launch: Launch, certificates: Certificates
) -> None:
    """E-3: without `ca_file` the system's authorities count, and ours is none of them."""
    async with launch("good") as server:
        error = await refusal(server.config(TlsConfig(mode=TlsMode.VERIFY_CA)))

    assert error.code.value == "SOURCE_TLS_FAILED"
    assert "`tls.ca_file`" in advice(error)


async def test_old_tls_is_refused(launch: Launch, certificates: Certificates) -> None:
    """E-3: nothing older than TLS 1.2, in no mode."""
    async with launch("good", "old") as server:
        for mode in ENCRYPTED:
            error = await refusal(server.config(tls_config(mode, certificates)))
            assert error.code.value == "SOURCE_TLS_FAILED", (mode, error)
            assert "TLS 1.2 or later" in advice(error), (mode, error)


async def test_a_certificate_of_ours_is_shown_when_it_is_asked_for(launch: Launch, certificates: Certificates) -> None:
    """E-3: servers that know their clients by certificate."""
    certificate, key = certificates.files("client")
    async with launch("good", "client") as server:
        without = await refusal(server.config(tls_config(TlsMode.VERIFY_FULL, certificates)))
        tls = tls_config(TlsMode.VERIFY_FULL, certificates, cert_file=str(certificate), key_file=str(key))

        assert await encryption(server, server.config(tls)) is not None
    # With TLS 1.3 the server refuses after the handshake: its alert may be overtaken by the end of the connection.
    assert without.code.value in ("SOURCE_TLS_FAILED", "SOURCE_CONNECTION_LOST", "SOURCE_AUTH_FAILED")
    if without.code.value != "SOURCE_AUTH_FAILED":
        assert "`tls.cert_file`" in advice(without)


# --- without a server of one's own ----------------------------------------------------------------------------------


async def test_a_server_without_tls_is_refused_with_advice(postgres: PostgresDatabase, mariadb: MariaDatabase) -> None:
    """E-3: asked for TLS, a source never falls back to plain text, and says how to get out."""
    for database in (postgres, mariadb):
        for mode in ENCRYPTED:
            error = await refusal(replace(database.config, tls=TlsConfig(mode=mode)))
            assert error.code.value == "SOURCE_TLS_FAILED", error
            assert "switch TLS on" in advice(error)


@pytest.mark.parametrize(("name", "word"), [("ca_file", "authorities"), ("cert_file", "certificate")])
async def test_files_that_are_none_are_named(tmp_path: Path, name: str, word: str) -> None:
    """E-3: which file is wrong is said, before anybody is connected to."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for file in (empty, tmp_path / "missing.pem"):
        tls = TlsConfig(mode=TlsMode.REQUIRE, **{name: str(file)})
        error = await refusal(SourceConfig(type=SourceType.POSTGRES, host="127.0.0.1", port=1, user="u", tls=tls))
        assert error.code.value == "SOURCE_TLS_FAILED"
        assert word in error.message
        assert str(file) in error.message


@pytest.mark.parametrize(
    ("query", "mode", "ca_file"),
    [
        ("sslmode=require", TlsMode.REQUIRE, None),
        ("sslmode=require&sslrootcert=ca.pem", TlsMode.VERIFY_CA, "ca.pem"),
        ("sslmode=verify-full&sslrootcert=ca.pem", TlsMode.VERIFY_FULL, "ca.pem"),
        ("sslrootcert=ca.pem", TlsMode.VERIFY_FULL, "ca.pem"),
        ("sslmode=disable", TlsMode.DISABLE, None),
        ("sslmode=prefer", TlsMode.VERIFY_FULL, None),
        ("ssl-mode=VERIFY_IDENTITY", TlsMode.VERIFY_FULL, None),
        ("ssl-mode=REQUIRED", TlsMode.REQUIRE, None),
    ],
)
def test_urls_choose_the_mode(query: str, mode: TlsMode, ca_file: str | None) -> None:
    """E-3: a URL's options mean what they mean to PostgreSQL's and MySQL's own clients, except that none is weaker than asked."""
    kind = SourceType.MYSQL if query.startswith("ssl-mode") else SourceType.POSTGRES
    scheme = "mysql" if kind is SourceType.MYSQL else "postgresql"

    found = server_address(SourceConfig(type=kind, url=f"{scheme}://u@db.example/d?{query}"), {})

    assert (found.tls, found.ca_file) == (mode, ca_file)


def test_the_environment_chooses_the_mode() -> None:
    """E-2, E-3: PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and PGSSLKEY, where the configuration has no `tls`."""
    environ = {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": "ca.pem", "PGSSLCERT": "c.pem", "PGSSLKEY": "k.pem"}
    silent = SourceConfig(type=SourceType.POSTGRES, host="db.example", user="u")
    spoken = SourceConfig(type=SourceType.POSTGRES, host="db.example", user="u", tls=TlsConfig())

    found, configured = server_address(silent, environ), server_address(spoken, environ)

    assert (found.tls, found.ca_file, found.cert_file, found.key_file) == (
        TlsMode.VERIFY_CA,
        "ca.pem",
        "c.pem",
        "k.pem",
    )
    assert (configured.tls, configured.ca_file, configured.cert_file) == (TlsMode.VERIFY_FULL, None, None)


def test_a_plain_connection_to_another_machine_is_told() -> None:
    """E-3: it is possible where somebody wrote it down, and never silent."""
    plain = TlsConfig(mode=TlsMode.DISABLE)
    for kind in (SourceType.POSTGRES, SourceType.MYSQL):
        far = server_address(SourceConfig(type=kind, host="db.example", user="u", tls=plain), {})
        near = server_address(SourceConfig(type=kind, host="localhost", user="u"), {})
        verified = server_address(SourceConfig(type=kind, host="db.example", user="u"), {})

        assert "plain text" in "".join(far.warnings)
        assert near.warnings == verified.warnings == ()


async def test_what_was_sent_before_tls_is_not_believed(certificates: Certificates) -> None:
    """E-3: plain bytes that somebody slips in between the greeting and TLS are no answer of the server."""
    with own_folder() as path:
        template = await mariadb_template(path)
        start = partial(mariadb_with_tls, certificates, template)
        async with start("good") as server, slipping_in(server.port) as port:
            config = server.config(tls_config(TlsMode.VERIFY_FULL, certificates))
            error = await refusal(replace(config, port=port))

    assert error.code.value == "SOURCE_TLS_FAILED", error


def slipping_in(target: int) -> AbstractAsyncContextManager[int]:
    """A man in the middle who adds an OK of his own to the greeting of a MySQL server, and copies everything else."""
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager, suppress

    from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream
    from anyio.streams.buffered import BufferedByteReceiveStream

    ok = b"\x07\0\0\x03\0\0\0\x02\0\0\0"

    async def copy(source: ByteReceiveStream, target: ByteSendStream, scope: anyio.CancelScope) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                await target.send(await source.receive())
        scope.cancel()

    async def serve(client: SocketStream) -> None:
        async with client, await anyio.connect_tcp("127.0.0.1", target) as server, anyio.create_task_group() as tasks:
            answers = BufferedByteReceiveStream(server)
            await client.send(b"".join(await packet(answers)) + ok)
            tasks.start_soon(copy, answers, client, tasks.cancel_scope)
            tasks.start_soon(copy, client, server, tasks.cancel_scope)

    @asynccontextmanager
    async def listening() -> AsyncIterator[int]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve, tasks)
            yield listener.extra(SocketAttribute.local_port)
            tasks.cancel_scope.cancel()

    return listening()
