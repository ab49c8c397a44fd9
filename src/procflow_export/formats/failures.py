"""The errors of all formats, so that the same failure has the same code and words in each."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.types import NATIVE_TYPE_KEY


def unsupported_type(format_name: str, field: pa.Field[Any], cause: Exception) -> DataError:
    """A column whose type the format cannot hold; known before the first row."""
    native = (field.metadata or {}).get(NATIVE_TYPE_KEY, b"").decode()
    origin = f" (from {native})" if native else ""
    return DataError(
        Code.TYPE_NOT_SUPPORTED,
        f"column {field.name!r} of type {field.type}{origin} cannot be written as {format_name}: {cause}",
    )


def null_in_required_column(field: pa.Field[Any]) -> DataError:
    """A null where the schema promised none: NOT NULL was dropped while the export ran, or a decoder is wrong."""
    return DataError(
        Code.SCHEMA_CHANGED, f"column {field.name!r} was NOT NULL when the export began and now holds a null"
    )


def not_encodable(format_name: str, cause: Exception) -> DataError:
    """The library refused a value."""
    return DataError(Code.FORMAT_FAILED, f"the rows cannot be written as {format_name}: {cause}")


def wrong_options(format_name: str, cause: ValueError) -> DataError:
    """Options that do not fit together."""
    return DataError(Code.FORMAT_FAILED, f"the {format_name} options are wrong: {cause}")
