"""Bytes that should be UTF-8 become texts.

Owns what becomes of those that are not: see ``OnInvalid``.
"""

from __future__ import annotations

import pyarrow as pa

from procflow_export.model.choices import OnInvalid
from procflow_export.sources.arrays import DoesNotFitError, Values
from procflow_export.sources.columns.policies import Fitting, fitted


def decoded_texts(values: Values, on_invalid: OnInvalid) -> tuple[Values, int]:
    """Return a binary column as texts, and how many of them were changed.

    Raises:
        MisfitError: For the first value that is not UTF-8 and must not be changed, or cannot be.
    """
    if on_invalid is OnInvalid.TEXT:
        return fitted(values, Fitting(convert=_to_text, nearest=_escaped), OnInvalid.CLAMP)
    return fitted(values, Fitting(convert=_to_text), on_invalid)


def _to_text(values: Values) -> Values:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid as exc:
        raise DoesNotFitError("the text is not valid UTF-8") from exc


def _escaped(values: Values) -> Values:
    return pa.array([value.decode(errors="backslashreplace") for value in values.to_pylist()], pa.string())
