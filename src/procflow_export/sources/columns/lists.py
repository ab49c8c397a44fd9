"""JSON texts of arrays become lists.

Owns the shape: how deep a list is, and that every element, NULLs among them, stays in its place.  What becomes of the elements
is decided for all of them together, as for the values of a column.  An array of another depth than the type's does not fit.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.model.choices import OnInvalid
from procflow_export.sources.arrays import AnyType, DoesNotFitError, MisfitError, Values, buffer_of
from procflow_export.sources.columns.policies import Fitting, fitted

OTHER_DEPTH: Final = "an array of another depth, which only the type json holds"

_Json: TypeAlias = "str | bool | list[_Json] | None"


def fitted_lists(texts: Values, arrow_type: AnyType, elements: Fitting, on_invalid: OnInvalid) -> tuple[Values, int]:
    """Return JSON arrays as lists, and how many arrays or elements were changed.

    Args:
        texts: JSON arrays, of arrays as deep as ``arrow_type`` is.
        arrow_type: A list type.
        elements: How the innermost type of their elements is made of texts.
        on_invalid: What becomes of an element that does not fit, and of an array of another depth.

    Raises:
        MisfitError: For the first array that does not fit, or holds such an element, and must not be changed, or cannot be.
    """
    shapes, array_count = fitted(texts, Fitting(convert=partial(_lists_of_texts, arrow_type=arrow_type)), on_invalid)
    levels = [shapes]
    while pa.types.is_list(levels[-1].type):
        levels.append(levels[-1].values)
    try:
        values, element_count = fitted(levels.pop(), elements, on_invalid)
    except MisfitError as exc:
        raise MisfitError(_row_of(levels, exc.index), exc.reason) from exc
    return _rebuilt(levels, values), array_count + element_count


def element_type(arrow_type: AnyType) -> AnyType:
    """Return the innermost type of a list."""
    while pa.types.is_list(arrow_type):
        arrow_type = arrow_type.value_type
    return arrow_type


def _lists_of_texts(texts: Values, arrow_type: AnyType) -> Values:
    return _lists([None if text is None else _parsed(text) for text in texts.to_pylist()], arrow_type)


def _parsed(text: str) -> _Json:
    try:
        # Numbers and truth values stay texts: every digit counts, and the element's own conversion reads them.
        parsed: _Json = json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_hook=_refused)
    except (ValueError, RecursionError) as exc:
        raise DoesNotFitError("not a JSON array") from exc
    return parsed


def _refused(_: dict[str, object]) -> _Json:
    raise ValueError("an object")


def _lists(values: list[_Json], arrow_type: AnyType) -> Values:
    """Return lists as deep as ``arrow_type``, of texts."""
    if not pa.types.is_list(arrow_type):
        return pa.array([_text(value) for value in values], pa.string())
    offsets, flat = [0], []
    for value in values:
        if isinstance(value, list):
            flat.extend(value)
        elif value is not None:
            raise DoesNotFitError(OTHER_DEPTH)
        offsets.append(len(flat))
    inner = _lists(flat, arrow_type.value_type)
    is_null = np.array([value is None for value in values], np.bool_)
    return _list_array(np.array(offsets, np.int32), is_null, inner)


def _text(element: _Json) -> str | None:
    if isinstance(element, list):
        raise DoesNotFitError(OTHER_DEPTH)
    return str(element).lower() if isinstance(element, bool) else element


def _row_of(levels: list[Values], index: int) -> int:
    """Return the row that an innermost element belongs to."""
    for level in reversed(levels):
        offsets = level.offsets.to_numpy()
        index = int(np.searchsorted(offsets, index, side="right")) - 1
    return index


def _rebuilt(levels: list[Values], values: Values) -> Values:
    """Return lists of the shape of ``levels``, outermost first, that hold other values."""
    for level in reversed(levels):
        is_null = level.is_null().to_numpy(zero_copy_only=False)
        values = _list_array(level.offsets.to_numpy(), is_null, values)
    return values


def _list_array(
    offsets: np.ndarray[tuple[int], np.dtype[np.int32]],
    is_null: np.ndarray[tuple[int], np.dtype[np.bool_]],
    values: Values,
) -> Values:
    validity = buffer_of(np.packbits(~is_null, bitorder="little")) if is_null.any() else None
    return pa.Array.from_buffers(pa.list_(values.type), len(is_null), [validity, buffer_of(offsets)], children=[values])
