"""What is a placeholder of a query and what only looks like one; and values that become a part of a statement."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procflow_export.model.plan import Query, Relation
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import TokenKind, body_of, filled, placeholder_names, tokens
from procflow_export.sources import sql
from procflow_export.sources.parameters import bound, mysql_literal, postgres_literal, without_values

PG, MY, LITE = SourceType.POSTGRES, SourceType.MYSQL, SourceType.SQLITE
ENGINES = [PG, MY, LITE]


@given(text=st.text("a:/*-'\"`$[]\\#;eE \n\t!xé@", max_size=40), engine=st.sampled_from(ENGINES))
@example(text="/*", engine=LITE)
@example(text="/*/* */", engine=PG)
@example(text="$a$ $b$", engine=PG)
def test_tokens_are_all_of_a_statement(text: str, engine: SourceType) -> None:
    """E-12: nothing of a query is lost or doubled when it is taken apart."""
    found = list(tokens(text, engine))

    assert "".join(text[token.start : token.stop] for token in found) == text
    assert all(
        text[token.start] == ":" and re.fullmatch(r"[A-Za-z_]\w*", text[token.start + 1 : token.stop])
        for token in found
        if token.kind is TokenKind.PLACEHOLDER
    )
    assert filled(text, engine, {}) == text
    assert text.lstrip().startswith(body_of(text, engine))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT :a", ("a",)),
        ("SELECT :a,:b_2, (:a)", ("a", "b_2")),
        ("SELECT x FROM t WHERE x=:a AND y<:b", ("a", "b")),
        ("SELECT ':a', \":b\"", ()),
        ("SELECT 'it''s :a'", ()),
        ("SELECT 1 -- :a\n, :b", ("b",)),
        ("SELECT /* :a */ :b", ("b",)),
        ("SELECT x::int, :a::text", ("a",)),
        ("SELECT : a", ()),
        ("SELECT t.x[low:high], '{}':a, x:b, 1:c", ()),
        ("SELECT :1, :é, :aé", ()),
        ("SELECT @v := 1", ()),
    ],
)
def test_placeholders_stand_between_tokens(engine: SourceType, text: str, names: tuple[str, ...]) -> None:
    """E-12: no placeholder is seen in a text, a name, a comment, a cast or a slice."""
    assert placeholder_names(text, engine) == names


@pytest.mark.parametrize(
    ("engine", "text", "names"),
    [
        (PG, r"SELECT E'\':a', '\', :b", ("b",)),
        (PG, "SELECT $$:a$$, $x$ $$ :a $x$, :b", ("b",)),
        (PG, "SELECT /* /* */ :a */ :b", ("b",)),
        (PG, "SELECT a$b :c", ("c",)),
        (PG, "SELECT ` :a", ("a",)),
        (PG, "SELECT x # :a", ("a",)),
        (MY, r"SELECT '\':a', '\\', :b", ("b",)),
        (MY, r'SELECT "\":a", :b', ("b",)),
        (MY, "SELECT `:a`, `a``:a`, :b", ("b",)),
        (MY, "SELECT 1 # :a\n, :b", ("b",)),
        (MY, "SELECT 5--:a", ("a",)),
        (MY, "SELECT /* /* */ :a", ("a",)),
        (MY, "SELECT 1 /*! + :a */", ("a",)),
        (MY, "SELECT $$ :a $$", ("a",)),
        (LITE, "SELECT [:a], `:a`, :b", ("b",)),
        (LITE, r"SELECT '\', :b", ("b",)),
    ],
)
def test_each_database_has_its_own_texts_and_comments(engine: SourceType, text: str, names: tuple[str, ...]) -> None:
    """E-12: what is a text is judged as the server judges it."""
    assert placeholder_names(text, engine) == names


@pytest.mark.parametrize(
    ("engine", "text", "body"),
    [
        (MY, "SELECT 1 ; -- the end", "SELECT 1"),
        (MY, "SELECT 1 # end;", "SELECT 1"),
        (MY, "SELECT a FROM t /*! LIMIT 5 */ ;", "SELECT a FROM t /*! LIMIT 5 */"),
        (MY, "SELECT a FROM t /*M! LIMIT 5 */", "SELECT a FROM t /*M! LIMIT 5 */"),
        (MY, "SELECT 1 /* x */ ; ", "SELECT 1"),
        (LITE, "SELECT ';' ; -- the end", "SELECT ';'"),
        (LITE, "SELECT 1 /* open ;", "SELECT 1"),
        (PG, "/*+ SeqScan(t) */ SELECT 1; /* a /* b */ ; */", "/*+ SeqScan(t) */ SELECT 1"),
    ],
)
def test_the_end_of_a_query_is_found(engine: SourceType, text: str, body: str) -> None:
    """E-12: what follows a query goes, and nothing that the server would run."""
    assert body_of(text, engine) == body


def test_values_take_the_places_of_their_names() -> None:
    """E-12: every use of a name is replaced, and nothing else."""
    query = Query(text="SELECT ':a', :a, :b WHERE x IN (:a) -- :a", parameters={"a": 1, "b": None})

    assert sql.POSTGRES.body(query) == "SELECT ':a', 1, NULL WHERE x IN (1)"
    assert sql.SQLITE.body(query) == "SELECT ':a', :a, :b WHERE x IN (:a)"
    assert bound(query) == {"a": 1, "b": None}
    assert bound(Relation(table="t")) == {}
    assert sql.MYSQL.body(Query(text="SELECT :a")) == "SELECT :a"


def test_a_list_is_one_value_after_the_other() -> None:
    """E-12: a list stands where several values may."""
    query = Query(text="SELECT 1 WHERE x IN (:a)", parameters={"a": (1, -2, "x")})

    assert sql.POSTGRES.body(query) == "SELECT 1 WHERE x IN (1, (-2), E'x')"
    assert sql.MYSQL.body(query) == "SELECT 1 WHERE x IN (1, (-2), _utf8mb4 X'78')"
    assert sql.SQLITE.body(query) == "SELECT 1 WHERE x IN (:a$0, :a$1, :a$2)"
    assert bound(query) == {"a$0": 1, "a$1": -2, "a$2": "x"}
    assert without_values(query) == Query(text="SELECT 1 WHERE x IN (NULL)")


@pytest.mark.parametrize(
    ("value", "postgres", "mysql"),
    [
        (None, "NULL", "NULL"),
        (True, "TRUE", "TRUE"),
        (False, "FALSE", "FALSE"),
        (7, "7", "7"),
        (-7, "(-7)", "(-7)"),
        (2**70, str(2**70), str(2**70)),
        (0.1, "'0.1'::pg_catalog.float8", "0.1e0"),
        (-1e300, "'-1e+300'::pg_catalog.float8", "(-1e+300)"),
        ("", "E''", "_utf8mb4 X''"),
        ("it's \\ ü\n", "E'it\\x27s\\x20\\x5C\\x20ü\\x0A'", "_utf8mb4 X'69742773205c20c3bc0a'"),
    ],
)
def test_literals(value: str | float | bool | None, postgres: str, mysql: str) -> None:
    """E-12: one spelling for each value."""
    assert postgres_literal(value) == postgres
    assert mysql_literal(value) == mysql


@given(st.text())
def test_no_text_can_end_its_literal(value: str) -> None:
    """E-12: whatever a server makes of quotes and backslashes, nothing of a value is one."""
    assert re.fullmatch(r"E'(?:[A-Za-z0-9]|[^\x00-\x7f]|\\x[0-9A-F]{2})*'", postgres_literal(value))
    if not any(0xD800 <= ord(char) < 0xE000 for char in value):
        assert re.fullmatch(r"_utf8mb4 X'(?:[0-9a-f]{2})*'", mysql_literal(value))


def test_what_a_query_holds_is_not_shown() -> None:
    """E-2: text and values may hold secrets."""
    query = Query(text="SELECT 'c4n4ry', :token", parameters={"token": "c4n4ry"})

    assert "c4n4ry" not in f"{query!r} {query}"
    assert "token" in repr(query)


def test_a_query_is_told_from_another_by_its_parameters_too() -> None:
    """E-13: other values are another query; what nobody may know is not in its digest."""
    query = Query(text="SELECT :a, :token", parameters={"a": 1, "token": "x"})

    assert query.sha256 == Query(text=query.text, parameters={"token": "y", "a": 1}).sha256
    assert query.sha256 != Query(text=query.text, parameters={"a": 2, "token": "x"}).sha256
    assert query.sha256 != Query(text=query.text, parameters={"a": 1}).sha256
    assert Query(text="SELECT 1").sha256 == hashlib.sha256(b"SELECT 1").hexdigest()
