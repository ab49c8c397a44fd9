"""SQL text with identifiers in it: the only place where it is put together.

Owns quoting, and the statements whose shape is the same for every database: the rows of a chunk, and the questions about
its keys.  Must not know a connection.  Values are bind parameters everywhere but in conditions on keys, whose literals
have one spelling only (see ``literals``), and in queries whose parameters cannot be bound (see ``parameters``).

**Conditions that an index serves.**  PostgreSQL and SQLite compare row values, ``(a, b) > (1, 2)``, and look them up in an
index on the leading columns; MySQL and MariaDB do not, so there the comparison is written out, behind a condition on the
first column alone that bounds the range whatever the optimizer makes of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, KeyValue
from procflow_export.model.plan import (
    Everything,
    KeyRange,
    NullKeys,
    ParameterValue,
    Query,
    Relation,
    Selection,
    TableChunk,
)
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import body_of, filled
from procflow_export.sources import literals, parameters
from procflow_export.sources.port import KeySearch


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one database spells identifiers, key values and comparisons.

    Attributes:
        engine: Whose it is.
        quote: The character around identifiers; doubled inside.
        placeholder: Returns what stands in a statement for a parameter, from its name and its value.
        literal: Returns the literal of a key's value.
        key_text: Returns the expression for the exact text of a key, from the key's own expression and its kind.
        has_row_values: Whether an index serves a comparison of row values.
        null_test: What is true of NULL and nothing else.
    """

    engine: SourceType
    quote: str
    placeholder: Callable[[str, ParameterValue], str]
    literal: Callable[[KeyValue], str]
    key_text: Callable[[str, KeyKind], str]
    has_row_values: bool = True
    null_test: str = "IS NULL"

    def body(self, query: Query) -> str:
        """Return the statement of a query, without the white space, comments and semicolons that may follow it."""
        values = {name: self.placeholder(name, value) for name, value in query.parameters.items()}
        return body_of(filled(query.text, self.engine, values), self.engine)

    def identifier(self, name: str) -> str:
        """Return ``name`` quoted, so that it can only be read as one identifier.

        Raises:
            ValueError: If the name is empty or holds a NUL, which no database allows.
        """
        if not name or "\0" in name:
            raise ValueError("an identifier must not be empty or hold a NUL character")
        return self.quote + name.replace(self.quote, self.quote * 2) + self.quote

    def identifiers(self, names: Iterable[str]) -> str:
        """Return the quoted names, separated by commas."""
        return ", ".join(self.identifier(name) for name in names)

    def relation(self, relation: Relation) -> str:
        """Return the quoted name of a table or view, with its schema if it has one."""
        table = self.identifier(relation.table)
        return table if relation.schema is None else f"{self.identifier(relation.schema)}.{table}"

    def from_item(self, selection: Selection) -> str:
        """Return what stands after FROM for a selection.

        A query is a subquery of its own lines: a comment at its end cannot hide what follows it.
        """
        match selection:
            case Relation():
                return self.relation(selection)
            case Query():
                return f"(\n{self.body(selection)}\n) AS {self.identifier('procflow_query')}"
            case _:
                assert_never(selection)

    def key(self, part: KeyPart) -> str:
        """Return the expression of one part of a key."""
        name = self.identifier(part.column)
        return name if part.fallback is None else f"COALESCE({name}, {self.identifier(part.fallback)})"

    def condition(self, chunk: TableChunk) -> str | None:
        """Return the condition that holds exactly for the rows of a chunk; ``None`` when it holds for every row."""
        match chunk:
            case Everything():
                return None
            case NullKeys(key=key):
                return " OR ".join(self._is_null(part) for part in key if part.is_nullable) or "1 = 0"
            case KeyRange(key=key, low=low, high=high):
                conditions = [] if low is None else [self._beyond(key, low, ">")]
                conditions += [] if high is None else [self._beyond(key, high, "<")]
                # A comparison is never true for a NULL in the first part; a later part may not even be looked at.
                silent = key if not conditions else key[1:]
                conditions += [f"{self.key(part)} IS NOT NULL" for part in silent if part.is_nullable]
                return " AND ".join(conditions) or None
            case _:
                assert_never(chunk)

    def select(
        self,
        selection: Selection,
        expressions: Iterable[str],
        *chunks: TableChunk | None,
        also: Iterable[str] = (),
        hint: str = "",
        suffix: str = "",
    ) -> str:
        """Return the statement that reads ``expressions`` (already SQL) of the rows that are in every one of ``chunks``.

        ``also`` are further conditions, ``hint`` follows the selection and ``suffix`` the statement, all already SQL.
        """
        conditions = [text for chunk in chunks if chunk is not None and (text := self.condition(chunk)) is not None]
        conditions += also
        joined = f"({') AND ('.join(conditions)})" if len(conditions) > 1 else "".join(conditions)
        where = f" WHERE {joined}" if joined else ""
        return f"SELECT {', '.join(expressions)} FROM {self.from_item(selection)}{hint}{where}{suffix}"

    def presence(self, selection: Selection, chunk: TableChunk) -> str:
        """Return the statement that gives one row if the chunk has any, and none otherwise."""
        return self.select(selection, ["1"], chunk, suffix=" LIMIT 1")

    def nth_key(self, search: KeySearch) -> str:
        """Return the statement that gives one row, the texts of the key that is searched, or none.

        The key is found before its text is made: ORDER BY takes the name of a result column for that column, and the text of
        a number has another order than the number.
        """
        key = search.within.key
        order = self.ordered(key, is_descending=search.is_from_end)
        offset = f" OFFSET {search.nth - 1}" if search.nth > 1 else ""
        found = self.select(
            search.selection,
            [f"{self.key(part)} AS {self.identifier(part.column)}" for part in key],
            search.within,
            *search.among,
            suffix=f"{order} LIMIT 1{offset}",
        )
        texts = ", ".join(self.key_text(self.identifier(part.column), part.kind) for part in key)
        return f"SELECT {texts} FROM ({found}) AS {self.identifier('procflow_key')}"

    def ordered(self, key: Key, *, is_descending: bool = False) -> str:
        """Return the clause that puts rows into the order of a key."""
        return " ORDER BY " + ", ".join(self.key(part) + " DESC" * is_descending for part in key)

    def _is_null(self, part: KeyPart) -> str:
        names = [part.column] if part.fallback is None else [part.column, part.fallback]
        return " AND ".join(f"{self.identifier(name)} {self.null_test}" for name in names)

    def _beyond(self, key: Key, bound: Bound, sign: str) -> str:
        """Return the condition that a key is above (``>``) or below (``<``) a bound, or at it if it is inclusive."""
        names = [self.key(part) for part in key[: len(bound.values)]]
        values = [self.literal(value) for value in bound.values]
        last = sign + "=" * bound.is_inclusive
        if len(names) == 1:
            return f"{names[0]} {last} {values[0]}"
        if self.has_row_values:
            return f"({', '.join(names)}) {last} ({', '.join(values)})"
        return _written_out(names, values, sign, last)


def _written_out(names: Sequence[str], values: Sequence[str], sign: str, last: str) -> str:
    """Return a comparison of row values as comparisons of their parts."""
    equal = [f"{name} = {value}" for name, value in zip(names, values, strict=True)]
    cases = []
    for at, (name, value) in enumerate(zip(names, values, strict=True)):
        cases.append(" AND ".join([*equal[:at], f"{name} {last if at == len(names) - 1 else sign} {value}"]))
    return f"{names[0]} {sign}= {values[0]} AND (({') OR ('.join(cases)}))"


POSTGRES = Dialect(
    engine=SourceType.POSTGRES,
    quote='"',
    placeholder=parameters.postgres,
    literal=literals.postgres,
    key_text=literals.postgres_text,
)
MYSQL = Dialect(
    engine=SourceType.MYSQL,
    quote="`",
    placeholder=parameters.mysql,
    literal=literals.mysql,
    key_text=literals.mysql_text,
    has_row_values=False,
    null_test="<=> NULL",  # IS NULL is true for '0000-00-00', too, where the column is NOT NULL
)
SQLITE = Dialect(
    engine=SourceType.SQLITE,
    quote="`",  # a name in double quotes that is no column is a text
    placeholder=parameters.sqlite,
    literal=literals.sqlite,
    key_text=literals.sqlite_text,
)
