"""What a row of the type tables is: one native type, what becomes of it, and values that show it.

The rows of a source drive its round-trip tests and the page docs/reference/type-tables.md (tools/type_tables.py), so that the page
says nothing that no test has seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from procflow_export.model.types import Column, Fidelity, LogicalType

Literal: TypeAlias = Any
"""How a value is written: as SQL for servers, as a Python value for SQLite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A value that the native type has and the Arrow type has not.

    Attributes:
        literal: The value.
        text: How an error shows it; empty where that is left to the decoder.
        clamped: What ``clamp`` makes of it, as the database would print that; ``None`` if nothing is near.
    """

    literal: Literal
    text: str
    clamped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """One native type.

    Attributes:
        native: How it is declared.
        shown: How the page calls it.
        literals: Values: the extremes, and what is awkward.
        arrow_type: What it becomes.
        logical_type: What it means.
        fidelity: How faithful that is.
        misfits: Values that do not fit.
        notes: A remark for the page.
        catalog_name: How the database calls it, where that is not as declared and matters.
    """

    native: str
    literals: tuple[Literal, ...]
    arrow_type: pa.DataType
    logical_type: LogicalType
    fidelity: Fidelity = Fidelity.EXACT
    misfits: tuple[Misfit, ...] = ()
    shown: str = ""
    notes: str = ""
    catalog_name: str = ""

    @property
    def slug(self) -> str:
        """A name for tests and links."""
        words = (self.shown or self.native).lower()
        for sign, word in (("[]", " array"), ("−", "minus "), ("≤", "up to"), (">", "over"), ('"', " one ")):
            words = words.replace(sign, word)
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")

    def column(self) -> Column:
        """The column that the resolver makes of it, apart from how its values travel."""
        return Column(
            name="v",
            native_type=self.catalog_name or self.native,
            logical_type=self.logical_type,
            arrow_type=self.arrow_type,
            fidelity=self.fidelity,
        )
