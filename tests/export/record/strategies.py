"""Any event of an export, made from the types of its fields."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from procflow_export.model.events import RUN_EVENT_TYPES, UNIT_EVENT_TYPES

EVENT_TYPES = (*RUN_EVENT_TYPES, *UNIT_EVENT_TYPES)
ENVELOPE = {"seq", "at_ms", "mono_ns"}
BASE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(min_value=-(2**63), max_value=2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    type(None): st.none(),
}


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of an annotation."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind in BASE:
        return BASE[kind]
    if origin in (typing.Union, types.UnionType):
        return st.one_of([of_type(one) for one in inside])
    if origin is tuple:
        return st.lists(of_type(inside[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of_type(inside[0]), of_type(inside[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    assert issubclass(kind, msgspec.Struct), kind
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: of_type(hints[name]) for name in kind.__struct_fields__ if name not in ENVELOPE})


events = st.sampled_from(EVENT_TYPES).flatmap(of_type)
