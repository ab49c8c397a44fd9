"""A column is converted, and the values that its type cannot hold become what the column's policy says.

Owns the search for such values, and their number: nothing is changed without being counted.

A conversion works on whole columns and only says that something does not fit.  Where that happens, its distinct values are
searched by halves; misfits are few kinds in many rows mostly (``infinity``, ``0000-00-00``), and one search serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from procflow_export.model.choices import OnInvalid
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError
from procflow_export.sources.arrays import DoesNotFitError, MisfitError, Values
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.text_columns import Conversion, first_failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """How a column gets its type.

    Attributes:
        convert: Converts values, or raises ``pa.ArrowInvalid`` when one does not fit.
        nearest: Makes of values that do not fit those that are nearest to them, in the type that ``convert`` makes; NULL
            where there is none.
    """

    convert: Conversion
    nearest: Conversion | None = None


def fitted(values: Values, fitting: Fitting, on_invalid: OnInvalid) -> tuple[Values, int]:
    """Return a column in its type, and how many of its values were changed.

    Raises:
        MisfitError: For the first value that does not fit and must not be changed, or cannot be.
    """
    try:
        return checked_nulls(fitting.convert(values), values.null_count), 0
    except pa.ArrowInvalid as exc:
        reason = str(exc) if isinstance(exc, DoesNotFitError) else ""
        if on_invalid not in {OnInvalid.NULL, OnInvalid.CLAMP}:
            raise MisfitError(first_failure(values, fitting.convert), reason) from exc
    encoded = values.dictionary_encode()
    kinds = pa.array(_misfits(encoded.dictionary, fitting.convert), encoded.indices.type)
    is_misfit = pc.is_in(encoded.indices, value_set=kinds)
    changed_count = pc.sum(is_misfit).as_py()
    kept = checked_nulls(
        fitting.convert(pc.if_else(is_misfit, pa.scalar(None, values.type), values)), values.null_count + changed_count
    )
    if on_invalid is OnInvalid.NULL:
        return kept, changed_count
    misfits = encoded.dictionary.take(kinds)
    substitutes = pa.nulls(len(misfits), kept.type) if fitting.nearest is None else fitting.nearest(misfits)
    fill = substitutes.take(pc.index_in(encoded.indices, value_set=kinds))
    is_lost = pc.and_(is_misfit, fill.is_null())
    if pc.any(is_lost).as_py():
        raise MisfitError(
            pc.index(is_lost, pa.scalar(value=True)).as_py(), f"no value is near it{reason and f', {reason}'}"
        )
    return pc.if_else(is_misfit, fill, kept), changed_count


def checked_nulls(converted: Values, null_count: int) -> Values:
    """Return a converted column, which must have as many NULLs as it was given: no conversion may make one."""
    if converted.null_count != null_count:
        raise ExportError(
            Code.INTERNAL, f"a conversion to {converted.type} made {converted.null_count} NULLs of {null_count}"
        )
    return converted


def _misfits(kinds: Values, convert: Conversion) -> list[int]:
    """Return the places of the values that ``convert`` refuses, in order."""
    found: list[int] = []
    ranges = [(0, len(kinds))]
    while ranges:
        start, stop = ranges.pop()
        try:
            convert(kinds.slice(start, stop - start))
        except pa.ArrowInvalid:
            if stop - start == 1:
                found.append(start)
            else:
                middle = (start + stop) // 2
                ranges += [(middle, stop), (start, middle)]
    return found
