"""What a PostgreSQL query may look like, and what is said of one that cannot be read."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import body_of
from tests.export.sources.databases import PostgresDatabase, integer_bounds, opened, read, values

pytestmark = pytest.mark.anyio

ENDS = [
    "; -- end",
    " -- end",
    ";;; /* a /* nested; */ comment */ ; -- x",
    " /* open; */",
    ";\n--\n;",
    "",
]
BODIES = [
    "SELECT 1 AS a",
    "SELECT ';--' AS a",
    "SELECT E'\\';--' AS a",
    "SELECT '''; -- ' AS a",
    'SELECT 1 AS ";--"',
    "SELECT $$;--'$$ AS a",
    "SELECT $x$;$$--$x$ AS a",
    "SELECT 1 /* ; */ AS a",
    "SELECT 1 -- ;\n AS a",
    "SELECT 1 AS a$b$",
    "SELECT '\\' AS a",
]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("body", BODIES)
def test_body_of_a_query_is_kept_and_its_end_is_not(body: str, end: str) -> None:
    """E-12: comments and semicolons at the end of a query go, those inside stay."""
    assert body_of(f"\n {body}{end}", SourceType.POSTGRES) == body


@pytest.mark.parametrize("text", ["SELECT 1; SELECT 2", "SELECT 'open; --", "SELECT $a$ ;--", "/* only */", ""])
def test_what_is_not_one_statement_is_left_to_the_server(text: str) -> None:
    """E-12: nothing that the server would refuse becomes something that it accepts."""
    assert body_of(text, SourceType.POSTGRES) in (text, "")


async def test_query_may_end_in_anything_that_is_no_statement(postgres: PostgresDatabase) -> None:
    """E-12: the same queries are read by the server."""
    async with opened(postgres) as source:
        for body in BODIES:
            plain = await read(source, Query(text=body))
            for end in ENDS:
                assert (await read(source, Query(text=body + end))).equals(plain)


async def test_query_with_parameters_is_a_mistake_not_a_lost_connection(postgres: PostgresDatabase) -> None:
    """E-31: what a retry cannot help is not retried."""
    selection = Query(text="SELECT $1::int AS a")

    async with opened(postgres) as source:
        with pytest.raises(SourceError) as profiled:
            await source.profile(selection)
        with pytest.raises(SourceError) as bounded:
            await integer_bounds(source, selection, "a")

    assert profiled.value.code is Code.SOURCE_QUERY_INVALID
    assert not bounded.value.is_transient


async def test_oid_can_be_a_key(postgres: PostgresDatabase) -> None:
    """E-10: an unsigned key is bounded and cut like another."""
    postgres.execute("CREATE TABLE t (id oid)", "INSERT INTO t VALUES (0), (7), (4294967295), (NULL)")

    async with opened(postgres) as source:
        bounds = await integer_bounds(source, Relation(table="t"), "id")
        low = await read(source, "t", KeyRange.of_integers("id", 0, 8))
        high = await read(source, "t", KeyRange.of_integers("id", 8, 2**32 - 1))
        last = await read(source, "t", replace(KeyRange.of_integers("id", 2**32 - 1, 0), high=None))

    assert bounds == (0, 2**32 - 1, True)
    assert sorted(values(low)) == [0, 7]
    assert high.num_rows == 0
    assert values(last) == [2**32 - 1]


async def test_not_null_is_claimed_only_where_the_server_checks_it(postgres: PostgresDatabase) -> None:
    """E-20: a NULL that the database may give is never refused by the schema."""
    postgres.execute(
        "CREATE DOMAIN sure AS text NOT NULL",
        "CREATE TABLE t (id int PRIMARY KEY, v sure)",
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE VIEW v AS SELECT n AS id, t.v FROM generate_series(1, 2) AS g (n) LEFT JOIN t ON t.id = n",
        "INSERT INTO t VALUES (2, (SELECT v FROM v WHERE id = 2))",
        "CREATE TABLE u (id int UNIQUE, k int NOT NULL)",
        "INSERT INTO u VALUES (NULL, 1)",
        # PostgreSQL 18 takes a constraint on trust; before it, a child of a table may lack its parent's.
        """
        DO $$ BEGIN
            IF current_setting('server_version_num')::int >= 180000 THEN
                ALTER TABLE u ADD CONSTRAINT later NOT NULL id NOT VALID;
            ELSE
                ALTER TABLE u RENAME TO child;
                CREATE TABLE u (id int UNIQUE NOT NULL, k int NOT NULL);
                DELETE FROM child; ALTER TABLE child ALTER id SET NOT NULL, INHERIT u;
                ALTER TABLE child ALTER id DROP NOT NULL;
                INSERT INTO child VALUES (NULL, 1);
            END IF;
        END $$
        """,
    )

    async with opened(postgres) as source:
        nullable = {
            name: [column.is_nullable for column in (await source.profile(Relation(table=name))).columns]
            for name in ("t", "v", "u")
        }
        for name in ("t", "v"):
            table = await read(source, name)
            assert sorted(table.to_pylist(), key=lambda row: row["id"]) == [{"id": 1, "v": "a"}, {"id": 2, "v": None}]
        assert values(await read(source, "u")) == [None]
        assert (await source.profile(Relation(table="u"))).indexes.unique_keys == ()

    assert nullable == {"t": [False, True], "v": [True, True], "u": [True, False]}
