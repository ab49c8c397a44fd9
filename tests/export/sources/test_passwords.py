"""Passwords of any characters, in every way of giving them, at real servers that ask for them."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query
from procflow_export.model.settings import SourceConfig, SourceType, TlsConfig, TlsMode
from procflow_export.sources import open_source
from tests.export.sources.password_servers import postgres_with_passwords
from tools.pytest_servers import mariadb_execute, postgres_execute

PRINTABLE = "".join(sorted(string.ascii_letters + string.digits + string.punctuation + " "))
EVERYTHING = PRINTABLE + " äß€密😀"
HARD = [
    PRINTABLE,
    EVERYTHING,
    "%41",
    "p%",
    "a b",
    "'\"\\",
    "/?#@:",
    "1/2@h:3/x",
    "a?b=c@d",
    "@",
    ":",
    " x",
    "source",
    "${X}",
]
PLAIN = TlsConfig(mode=TlsMode.DISABLE)

Given = tuple[SourceConfig, dict[str, str]]


class Login:
    """A role of a server, whose password tests change."""

    def __init__(self, kind: SourceType, port: int, user: str, database: str, change: Callable[[str], None]) -> None:
        self.kind = kind
        self.port = port
        self.user = user
        self.database = database
        self.change = change
        self.scheme = "postgresql" if kind is SourceType.POSTGRES else "mysql"

    def url(self, password: str) -> str:
        return f"{self.scheme}://{self.user}:{password}@127.0.0.1:{self.port}/{self.database}"

    @property
    def fields(self) -> SourceConfig:
        return SourceConfig(
            type=self.kind, host="127.0.0.1", port=self.port, user=self.user, database=self.database, tls=PLAIN
        )

    @property
    def silent(self) -> SourceConfig:
        return SourceConfig(type=self.kind, tls=PLAIN)


@pytest.fixture(scope="module")
def secured_postgres() -> Iterator[str]:
    with postgres_with_passwords() as url:
        yield url


@pytest.fixture(scope="module")
def postgres_login(secured_postgres: str) -> Callable[[str], Login]:
    """Makes a role of a name; its first letter chooses how the server checks passwords."""
    query = parse_qs(urlsplit(secured_postgres).query)

    def login(user: str) -> Login:
        encryption = "md5" if user.startswith("m") else "scram-sha-256"

        def change(password: str) -> None:
            text = password.replace("'", "''")
            postgres_execute(
                secured_postgres,
                f"SET password_encryption = '{encryption}'; SET standard_conforming_strings = on;"
                f"ALTER ROLE {user} PASSWORD '{text}'",
            )

        postgres_execute(secured_postgres, f"DROP ROLE IF EXISTS {user}", f"CREATE ROLE {user} LOGIN")
        return Login(SourceType.POSTGRES, int(query["port"][0]), user, "postgres", change)

    return login


@pytest.fixture(scope="module")
def mariadb_login(mariadb_module_database: str) -> Iterator[Login]:
    parts = urlsplit(mariadb_module_database)
    database = parts.path[1:]
    user = f"u_{database}"[:32]

    def change(password: str) -> None:
        text = password.replace("\\", "\\\\").replace("'", "''")
        mariadb_execute(
            mariadb_module_database,
            f"CREATE OR REPLACE USER '{user}'@'%' IDENTIFIED BY '{text}'",
            f"GRANT SELECT ON {database}.* TO '{user}'@'%'",
        )

    yield Login(SourceType.MYSQL, parts.port or 0, user, database, change)
    mariadb_execute(mariadb_module_database, f"DROP USER '{user}'@'%'")


@pytest.fixture(params=["scram", "md5", "clear", "mariadb"])
def login(request: pytest.FixtureRequest) -> Login:
    """A role of each server, and for PostgreSQL of each way to check a password."""
    if request.param == "mariadb":
        found: Login = request.getfixturevalue("mariadb_login")
        return found
    make: Callable[[str], Login] = request.getfixturevalue("postgres_login")
    return make({"scram": "s_role", "md5": "m_role", "clear": "c_role"}[request.param])


async def logs_in(config: SourceConfig, environ: dict[str, str]) -> None:
    async with open_source(config, environ=environ) as source:
        assert (await source.profile(Query(text="SELECT 1 AS a"))).columns


def ways(login: Login, password: str, folder: Path) -> dict[str, Given]:
    """Every way of giving a password."""
    encoded = login.url(quote(password, safe=""))
    file = folder / "url"
    file.write_text(f"{encoded}\n", encoding="utf-8")
    is_postgres = login.kind is SourceType.POSTGRES
    host, port, user, base = "127.0.0.1", str(login.port), login.user, login.database
    place = (
        {"PGHOST": host, "PGPORT": port, "PGUSER": user, "PGDATABASE": base}
        if is_postgres
        else {"MYSQL_HOST": host, "MYSQL_TCP_PORT": port, "MYSQL_USER": user, "MYSQL_DATABASE": base}
    )
    found: dict[str, Given] = {
        "url": (replace(login.silent, url=encoded), {}),
        "url, as a form writes it": (
            replace(login.silent, url=login.url(quote_plus(password).replace("+", "%20"))),
            {},
        ),
        "url_env": (replace(login.silent, url_env="SHOP"), {"SHOP": encoded}),
        "url_file": (replace(login.silent, url_file=str(file)), {}),
        "DATABASE_URL": (login.silent, {"DATABASE_URL": encoded}),
        "password": (replace(login.fields, password=password), {}),
        "password_env": (replace(login.fields, password_env="SECRET"), {"SECRET": password}),
        "environment beside fields": (login.fields, {"PGPASSWORD" if is_postgres else "MYSQL_PWD": password}),
        "environment alone": (login.silent, {**place, "PGPASSWORD" if is_postgres else "MYSQL_PASSWORD": password}),
    }
    if unquote(password) == password:
        found["url, as it is"] = (replace(login.silent, url=login.url(password)), {})
    if is_postgres:
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        passwords, services = folder / "pgpass", folder / "services.conf"
        passwords.write_text(f"# comment\nother:*:*:*:wrong\n*:{port}:{base}:{user}:{escaped}\n", encoding="utf-8")
        service = f"[shop]\nhost={host}\nport={port}\nuser={user}\ndbname={base}\npassfile={passwords}\n"
        services.write_text(f"{service}[other]\nhost=other\n", encoding="utf-8")
        found |= {
            "PGPASSFILE": (login.fields, {"PGPASSFILE": str(passwords)}),
            "PGSERVICE": (login.silent, {"PGSERVICE": "shop", "PGSERVICEFILE": str(services), "PGHOST": "nowhere"}),
        }
    return found


@pytest.mark.parametrize("password", [PRINTABLE, EVERYTHING], ids=["every printable ASCII", "and Unicode"])
def test_a_password_of_every_character_logs_in_every_way(login: Login, password: str, tmp_path: Path) -> None:
    """E-2: url, url_env, url_file, fields and the environment bring a password to the server as it is."""
    login.change(password)

    for way, (config, environ) in ways(login, password, tmp_path).items():
        try:
            asyncio.run(logs_in(config, environ))
        except SourceError as exc:
            pytest.fail(f"{way}: {exc}")


# Beyond these, PostgreSQL prepares passwords (RFC 4013) by the tables of its own Unicode version, and so does the driver.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(PRINTABLE), st.characters(min_codepoint=0xA1, max_codepoint=0x17F), st.sampled_from("€密😀Ω中")
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(password=TEXTS, data=st.data())
@example(password=HARD[0], data=None)
def test_any_password_logs_in(
    login: Login, password: str, data: st.DataObject | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """E-2: a property of every password, with a way drawn for each; one more character is one too many."""
    passwords = HARD if data is None else [password]
    for one in passwords:
        login.change(one)
        offered = ways(login, one, tmp_path_factory.mktemp("way"))
        chosen = (
            offered if data is None else {way: offered[way] for way in [data.draw(st.sampled_from(sorted(offered)))]}
        )
        for way, (config, environ) in chosen.items():
            try:
                asyncio.run(logs_in(config, environ))
            except SourceError as exc:
                pytest.fail(f"{way}, {one!r}: {exc}")
        with pytest.raises(SourceError) as caught:
            asyncio.run(logs_in(replace(login.fields, password=one + "x"), {}))
        assert caught.value.code.value == "SOURCE_AUTH_FAILED"
        assume(len(one) >= 8)
        assert one not in "".join(map(str, [caught.value, *getattr(caught.value, "__notes__", [])]))
