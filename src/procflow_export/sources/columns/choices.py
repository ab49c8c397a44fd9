"""The choices of an export, applied to the columns of its source: the one resolver that ``check`` and ``run`` share.

Owns which types a column of which meaning can be given, and in which form its values then travel.  Must not know a database: each
source adds what only its own types offer.

A choice is taken whenever *some* values of the column can fit it; whether all do is checked while they are read, value by value.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from procflow_export.model.choices import FLOATS, INTEGERS, MOMENTS, Choice, Choices, ChosenType, OnInvalid, TypeName
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, ExportError, PlanError
from procflow_export.model.types import (
    TEXT_CARRIER,
    Carrier,
    Column,
    Fidelity,
    LogicalType,
    chosen_arrow_type,
)

Offers: TypeAlias = Mapping[TypeName, Carrier]
"""The types that a column can be given, and the form in which its values then travel."""

_NUMBERS: Final = INTEGERS | FLOATS | {TypeName.DECIMAL}
_BY_TEXT: Final[Mapping[LogicalType, frozenset[TypeName]]] = {
    LogicalType.BOOL: frozenset({TypeName.BOOL}),
    LogicalType.INTEGER: _NUMBERS | {TypeName.BOOL},
    LogicalType.YEAR: _NUMBERS,
    LogicalType.FLOAT: _NUMBERS - {TypeName.FLOAT4},
    LogicalType.DECIMAL: _NUMBERS,
    LogicalType.TEXT: frozenset(TypeName) - {TypeName.LIST, TypeName.WKB},
    LogicalType.ENUM: frozenset({TypeName.ENUM}),
    LogicalType.JSON: frozenset({TypeName.JSON}),
    LogicalType.UUID: frozenset({TypeName.UUID}),
    LogicalType.DATE: MOMENTS | {TypeName.DATE},
    LogicalType.TIME: frozenset({TypeName.TIME, TypeName.DURATION}),
    LogicalType.TIMESTAMP: MOMENTS | {TypeName.DATE},
    LogicalType.INSTANT: MOMENTS | {TypeName.DATE},
    LogicalType.DURATION: frozenset({TypeName.DURATION, TypeName.TIME}),
}
_NATIVELY: Final[Mapping[LogicalType, frozenset[TypeName]]] = {
    LogicalType.BOOL: INTEGERS,
    LogicalType.FLOAT: frozenset({TypeName.FLOAT4}),
    LogicalType.MONEY: _NUMBERS,
    LogicalType.BYTES: frozenset({TypeName.BINARY, TypeName.UUID}),
    LogicalType.BITS: INTEGERS | {TypeName.BOOL},
    LogicalType.GEOMETRY: frozenset({TypeName.WKB, TypeName.BINARY}),
}
_ELEMENTS: Final = (
    _NUMBERS
    | MOMENTS
    | {
        TypeName.BOOL,
        TypeName.TEXT,
        TypeName.UUID,
        TypeName.BINARY,
        TypeName.DATE,
        TypeName.TIME,
        TypeName.LIST,
    }
)
_TEXTS: Final = frozenset({LogicalType.TEXT, LogicalType.ENUM, LogicalType.JSON})


def offers_for(column: Column) -> Offers:
    """Return the types that a column of any database can be given because of what it means; text is among them."""
    native = Carrier(logical_type=column.logical_type, arrow_type=column.arrow_type)
    offers = dict.fromkeys(_BY_TEXT.get(column.logical_type, ()), TEXT_CARRIER)
    offers |= dict.fromkeys(_NATIVELY.get(column.logical_type, ()), native)
    return offers | {TypeName.TEXT: TEXT_CARRIER}


def chosen_columns(
    columns: Sequence[Column], choices: Choices, offers: Callable[[Column], Offers]
) -> tuple[Column, ...]:
    """Return the columns with what an export wants of them.

    Args:
        columns: Those of a selection, as its source resolved them.
        choices: By name of column.
        offers: The types that a column of this source can be given.

    Raises:
        PlanError: If there is no column of a name.
        DataError: If a column cannot be given the type.
    """
    by_name = {column.name: column for column in columns}
    problems: list[ExportError] = [_unknown(name, by_name) for name in choices if name not in by_name]
    chosen = []
    for column in columns:
        choice = choices.get(column.name)
        try:
            chosen.append(column if choice is None else _chosen(column, choice, offers(column)))
        except DataError as exc:
            problems.append(exc)
    if problems:
        first, *others = problems
        for other in others:
            first.add_note(other.message)
        raise first
    return tuple(chosen)


def has_type(choice: Choice | None) -> bool:
    """Whether a choice says of which type a column is."""
    return choice is not None and (choice.type is not None or choice.on_invalid is OnInvalid.TEXT)


def is_still(agreed: Column, now: Column) -> bool:
    """Whether a column that was planned is what the source has now: itself, or what a choice made of the same type."""
    if agreed.chosen_from is not None:
        return (agreed.native_type, agreed.chosen_from) == (now.native_type, now.logical_type)
    return replace(now, is_nullable=agreed.is_nullable, on_invalid=agreed.on_invalid) == agreed


def _chosen(column: Column, choice: Choice, offers: Offers) -> Column:
    wanted = choice.type
    if choice.on_invalid is OnInvalid.TEXT:
        wanted = ChosenType(name=TypeName.TEXT)
    if wanted is not None:
        column = _typed(column, wanted, offers)
    is_nullable = column.is_nullable or choice.on_invalid is OnInvalid.NULL
    return replace(column, on_invalid=choice.on_invalid, is_nullable=is_nullable)


def _typed(column: Column, wanted: ChosenType, offers: Offers) -> Column:
    logical_type, arrow_type = chosen_arrow_type(wanted)
    if (logical_type, arrow_type) == (column.logical_type, column.arrow_type):
        return column
    carrier = offers.get(wanted.name)
    if carrier is None or not _may_be_element(wanted.element):
        allowed = ", ".join(name.value for name in TypeName if name in offers)
        raise DataError(
            Code.TYPE_NOT_SUPPORTED,
            f"column {column.name!r} is {column.native_type} and cannot become {wanted}; it can become {allowed}",
        )
    return replace(
        column,
        logical_type=logical_type,
        arrow_type=arrow_type,
        fidelity=_fidelity(column.logical_type, wanted.name),
        carrier=carrier,
        chosen_from=column.logical_type,
    )


def _fidelity(native: LogicalType, wanted: TypeName) -> Fidelity:
    if wanted is TypeName.TEXT:
        return Fidelity.EXACT if native in _TEXTS else Fidelity.TEXT
    return Fidelity.EXACT if wanted is TypeName.ENUM else Fidelity.COMPATIBLE


def _may_be_element(element: ChosenType | None) -> bool:
    return element is None or (element.name in _ELEMENTS and _may_be_element(element.element))


def _unknown(name: str, known: Iterable[str]) -> PlanError:
    names = {one.casefold(): one for one in known}
    error = PlanError(Code.PLAN_COLUMN_UNKNOWN, f"there is no column {name!r}, which `columns:` names")
    close = difflib.get_close_matches(name.casefold(), names, n=1)
    if close:
        error.add_note(f"did you mean {names[close[0]]!r}?")
    return error
