"""Write docs/reference/type-tables.md: every native type, what it becomes, and the round trip that shows it.

The rows are those of the tests (tests/export/types/*_rows.py).  What a type becomes in a file and what else it can become is asked of
the program; that it is so is what the tests of the rows assert.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from procflow_export.formats.forms import csv_form, parquet_form
from procflow_export.model.choices import FLOATS, INTEGERS, MOMENTS, ChosenType, TypeName
from procflow_export.model.types import Column, Fidelity, chosen_arrow_type
from procflow_export.sources.columns.choices import Offers
from procflow_export.sources.mysql.types import offers as mysql_offers
from procflow_export.sources.postgres.types import offers as postgres_offers
from procflow_export.sources.sqlite.types import offers as sqlite_offers
from tests.export.types import mysql_rows, postgres_rows, sqlite_rows
from tests.export.types.rows import Misfit, TypeRow
from tools.promises import ROOT, publish

PAGE = ROOT / "docs" / "reference" / "type-tables.md"

HEAD = """\
# Type tables

<!-- Made by tools/type_tables.py from the rows of tests/export/types; do not edit. -->

What every type of a source becomes, and what else it can become.
[Types](types.md) says what the words mean, and how to choose another type.

* **Also as**: the types that `columns:` can give it, [checked value by value](types.md#another-type-for-a-column).
  `text` is among them for every type; *numbers* are the integers, `float4`, `float8` and `decimal(p,s)`, *timestamps* the four of
  `timestamp`.
* **Does not fit**: values that the native type has and the Arrow type has not, with what `on_invalid: clamp` makes of each;
  a dash where nothing is near.
* **Test**: every row is exported to both formats and read back by pyarrow and DuckDB, with its extremes, NULL and awkward values, and
  compared with what the database itself prints.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    rows: Sequence[TypeRow]
    offers: Callable[[Column], Offers]
    test: str


SECTIONS = (
    Section(title="PostgreSQL", rows=postgres_rows.ROWS, offers=postgres_offers, test="test_round_trips_postgres.py"),
    Section(title="MySQL and MariaDB", rows=mysql_rows.ROWS, offers=mysql_offers, test="test_round_trips_mysql.py"),
    Section(title="SQLite", rows=sqlite_rows.ROWS, offers=sqlite_offers, test="test_round_trips_sqlite.py"),
)

_WITH_PARAMETERS = {TypeName.DECIMAL: "`decimal(p,s)`", TypeName.LIST: "`list<…>`"}
_NATURAL = {name: chosen_arrow_type(ChosenType(name=name))[1] for name in TypeName if name not in _WITH_PARAMETERS}
_GROUPS = {"numbers": INTEGERS | FLOATS | {TypeName.DECIMAL}, "timestamps": MOMENTS}


def render() -> str:
    """Return the page."""
    lines = [HEAD.rstrip()]
    for section in SECTIONS:
        lines += [
            "",
            f"## {section.title}",
            "",
            f"Each row's test is `tests/export/types/{section.test}::test_a_type_comes_back[…]`.",
            "",
            "| Type | Arrow | Parquet | CSV | Fidelity | Also as | Does not fit | Notes | Test |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row, section) for row in section.rows]
    return "\n".join(lines) + "\n"


def _line(row: TypeRow, section: Section) -> str:
    cells = (
        _type(row),
        f"`{arrow_name(row.arrow_type)}`",
        f"`{parquet_form(row.arrow_type)}`",
        csv_form(row.arrow_type),
        "" if row.fidelity is Fidelity.EXACT else row.fidelity.value,
        _others(row, section.offers),
        "<br>".join(map(_misfit, row.misfits)),
        row.notes,
        f"`[{row.slug}]`",
    )
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(row: TypeRow) -> str:
    if not row.shown or row.shown.lower() == row.native.lower():
        return f"`{row.native}`"
    example = f"`{row.native}`" if row.native else "no declared type"
    return f"{row.shown}<br>here {example}"


def arrow_name(arrow_type: pa.DataType) -> str:
    """Return an Arrow type as people call it."""
    if pa.types.is_dictionary(arrow_type):
        return f"dictionary<{arrow_name(arrow_type.value_type)}>"
    if pa.types.is_list(arrow_type):
        return f"list<{arrow_name(arrow_type.value_type)}>"
    if isinstance(arrow_type, pa.BaseExtensionType):
        return str(arrow_type.extension_name)
    return str(arrow_type).replace(", ", ",")


def _others(row: TypeRow, offers: Callable[[Column], Offers]) -> str:
    """Return the types that a column can be given beside its own and text; those that go together under one name."""
    offered = set(offers(row.column())) - {TypeName.TEXT}
    offered = {name for name in offered if name in _WITH_PARAMETERS or _NATURAL[name] != row.arrow_type}
    names = []
    for word, group in _GROUPS.items():
        if len(offered & group) > 1:
            names.append(word)
            offered -= group
    names += [_WITH_PARAMETERS.get(name, f"`{name.value}`") for name in TypeName if name in offered]
    return ", ".join(names)


def _misfit(misfit: Misfit) -> str:
    shown = misfit.text or str(misfit.literal)
    return f"`{shown}` → {f'`{misfit.clamped}`' if misfit.clamped is not None else '–'}"


def main() -> int:
    return publish(PAGE, render, tool="python -m tools.type_tables", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
