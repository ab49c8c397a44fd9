"""JSON texts of arrays become lists.

Owns the shape: how deep a list is, and that every element, NULLs among them, stays in its place.  What becomes of an element
is its own type's conversion.  An array of another depth than the type's does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.sources.arrays import AnyType, DoesNotFitError, Values, buffer_of

OTHER_DEPTH: Final = "an array of another depth, which only the type json holds"

_Json: TypeAlias = "str | bool | list[_Json] | None"


def to_lists(texts: Values, arrow_type: AnyType, convert: Callable[[Values], Values]) -> Values:
    """Convert JSON arrays to lists of ``arrow_type``.

    Args:
        texts: JSON arrays, of arrays as deep as ``arrow_type`` is.
        arrow_type: A list type.
        convert: Makes the innermost type of their elements, which it is given as texts.

    Raises:
        pa.ArrowInvalid: If an array has another depth, or an element does not fit.
    """
    return _lists([None if text is None else _parsed(text) for text in texts.to_pylist()], arrow_type, convert)


def element_type(arrow_type: AnyType) -> AnyType:
    """Return the innermost type of a list."""
    while pa.types.is_list(arrow_type):
        arrow_type = arrow_type.value_type
    return arrow_type


def _parsed(text: str) -> _Json:
    try:
        # Numbers and truth values stay texts: every digit counts, and the element's own conversion reads them.
        parsed: _Json = json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_hook=_refused)
    except (ValueError, RecursionError) as exc:
        raise DoesNotFitError("not a JSON array") from exc
    return parsed


def _refused(_: dict[str, object]) -> _Json:
    raise ValueError("an object")


def _lists(values: list[_Json], arrow_type: AnyType, convert: Callable[[Values], Values]) -> Values:
    offsets, flat, is_valid = [0], [], []
    for value in values:
        is_valid.append(value is not None)
        if isinstance(value, list):
            flat.extend(value)
        elif value is not None:
            raise DoesNotFitError(OTHER_DEPTH)
        offsets.append(len(flat))
    inner = arrow_type.value_type
    elements = _lists(flat, inner, convert) if pa.types.is_list(inner) else convert(_texts(flat))
    validity = None if all(is_valid) else buffer_of(np.packbits(np.array(is_valid, np.bool_), bitorder="little"))
    return pa.Array.from_buffers(
        arrow_type, len(values), [validity, buffer_of(np.array(offsets, np.int32))], children=[elements]
    )


def _texts(elements: list[_Json]) -> Values:
    texts = []
    for element in elements:
        if isinstance(element, list):
            raise DoesNotFitError(OTHER_DEPTH)
        texts.append(str(element).lower() if isinstance(element, bool) else element)
    return pa.array(texts, pa.string())
