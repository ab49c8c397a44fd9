"""SQL text with identifiers in it: the only place where it is put together.

Owns quoting, and the statements whose shape is the same for every database.  Must not know a connection.  Of values, only the
integers of a key range come here, which have one spelling; the parameters of a query are ``sources.literals``'.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from procflow_export.model.plan import Everything, KeyRange, NullKeys, Query, Relation, Selection, TableChunk
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import body_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one database spells identifiers and which integers its key columns can hold.

    Attributes:
        engine: Whose it is.
        quote: The character around identifiers; doubled inside.
        min_integer: Lowest integer of any integer column type.
        max_integer: Highest integer of any integer column type.
    """

    engine: SourceType
    quote: str
    min_integer: int = -(2**63)
    max_integer: int = 2**63 - 1

    def body(self, query: Query) -> str:
        """Return the text of a query without what may follow it: white space, comments and semicolons."""
        return body_of(query.text, self.engine)

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

    def condition(self, chunk: TableChunk) -> str | None:
        """Return the condition that holds exactly for the rows of a chunk; ``None`` when it holds for every row.

        A bound beyond every integer column type is left out: it excludes nothing, and as a literal it would be of a wider
        type, for which the server could not use the key's index.
        """
        match chunk:
            case Everything():
                return None
            case NullKeys(column=column):
                return f"{self.identifier(column)} IS NULL"
            case KeyRange(column=column, low=low, high=high):
                key = self.identifier(column)
                if high <= self.min_integer or low > self.max_integer or low >= high:
                    return "1 = 0"
                parts = [f"{key} >= {integer(low)}"] if low > self.min_integer else []
                if high <= self.max_integer:
                    parts.append(f"{key} < {integer(high)}")
                return " AND ".join(parts or [f"{key} IS NOT NULL"])
            case _:
                assert_never(chunk)

    def select(self, selection: Selection, expressions: Iterable[str], chunk: TableChunk | None = None) -> str:
        """Return the statement that reads ``expressions`` (already SQL) of a selection, or of one chunk of it."""
        condition = None if chunk is None else self.condition(chunk)
        where = "" if condition is None else f" WHERE {condition}"
        return f"SELECT {', '.join(expressions)} FROM {self.from_item(selection)}{where}"

    def bounds(self, selection: Selection, column: str) -> str:
        """Return the statement for the lowest and the highest key; one row."""
        key = self.identifier(column)
        return f"SELECT min({key}), max({key}) FROM {self.from_item(selection)}"

    def null_presence(self, selection: Selection, column: str) -> str:
        """Return the statement that gives one row if any key is NULL and none otherwise."""
        return f"SELECT 1 FROM {self.from_item(selection)} WHERE {self.identifier(column)} IS NULL LIMIT 1"


def integer(value: int) -> str:
    """Return the SQL literal of an integer."""
    if type(value) is not int:
        raise TypeError(f"a key bound is an int, not {type(value).__name__}")
    return str(value)


POSTGRES = Dialect(engine=SourceType.POSTGRES, quote='"')
MYSQL = Dialect(engine=SourceType.MYSQL, quote="`", max_integer=2**64 - 1)
SQLITE = Dialect(engine=SourceType.SQLITE, quote='"')
