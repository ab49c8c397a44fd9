"""In which of the formats of ``COPY`` a result travels.

Owns the choice, and what belongs to each format: the options of the statement, its SELECT list, and the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import pyarrow as pa

from procflow_export.model.types import Column, LogicalType, OnInvalid
from procflow_export.sources.blocks import BlockDecoder
from procflow_export.sources.postgres.decoding import layout, text
from procflow_export.sources.postgres.decoding.binary import BinaryDecoder


class DecoderFactory(Protocol):
    """Makes what decodes the blocks of one result; ``key`` is the column whose value names a row in errors."""

    def __call__(self, columns: Sequence[Column], *, key: tuple[str, ...] = ()) -> BlockDecoder: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """One of the formats of ``COPY``.

    Attributes:
        copy_options: How the driver is asked for it.
        select_list: Returns the expressions that the server is to send, for columns in the order that batches have.
        decoder: Makes what decodes a result of those columns.
    """

    copy_options: Mapping[str, str]
    select_list: Callable[[Sequence[Column]], Sequence[str]]
    decoder: DecoderFactory


BINARY: Final = WireFormat(
    copy_options={"format": "binary"},
    select_list=lambda columns: layout.layout_of(columns).select_list(),
    decoder=BinaryDecoder,
)
"""What is binary already needs no printing and no parsing; everything can travel so."""

TEXT: Final = WireFormat(copy_options={"format": "text"}, select_list=text.select_list, decoder=text.TextDecoder)
"""What is printed anyway, or is shorter in print; only for types that Arrow's own reader of delimited files knows."""

# Nanoseconds a value that text costs more than binary, CPU of server, driver and decoder together: eight NOT NULL columns of
# a type beside an integer key, PostgreSQL 18, asyncpg 0.32, blocks of 1 MiB.  What depends on the values is a middle: from -7 to
# +4 for an int4, 0 to +67 for a float8, -11 to +25 for texts of 1 to 40 characters.  The server prints a number of two
# decimals faster than it packs the base-10000 digits, which are twice as many bytes; types without a binary form that we read
# are printed in either format, and wrapped once more in the binary one.
_TEXT_SURPLUS_NS: Final[Mapping[LogicalType, int]] = {
    LogicalType.BOOL: -10,
    LogicalType.INTEGER: 5,
    LogicalType.FLOAT: 50,
    LogicalType.DECIMAL: -30,
    LogicalType.MONEY: -10,
    LogicalType.TEXT: 5,
    LogicalType.ENUM: 5,
    LogicalType.JSON: 25,
    LogicalType.DATE: 30,
    LogicalType.TIME: 30,
    LogicalType.TIMESTAMP: 60,
    LogicalType.INSTANT: 90,
    LogicalType.ARRAY: 5,
    LogicalType.OTHER: -50,
}

MOST_READ_AS_TEXTS: Final = 32
"""Arrow's reader makes room for a whole block in every column of texts and gives it back: with hundreds of them the holes in the
heap are larger than the budget (E-30)."""


def wire_format_for(columns: Sequence[Column]) -> WireFormat:
    """Return the format in which these columns travel with the least work for server and client together.

    That depends on the columns alone, so that all chunks of an export travel in the same.
    """
    if not all(_is_readable_as_text(column) for column in columns):
        return BINARY
    if sum(text.is_read_as_text(column) for column in columns) > MOST_READ_AS_TEXTS:
        return BINARY
    return TEXT if sum(_TEXT_SURPLUS_NS[column.logical_type] for column in columns) < 0 else BINARY


def _is_readable_as_text(column: Column) -> bool:
    # Text that does not fit is read cell by cell, which is right for an error, and slow for a policy that changes values.
    return (
        column.on_invalid is OnInvalid.ERROR
        and column.logical_type in _TEXT_SURPLUS_NS
        and not isinstance(column.arrow_type, pa.ListType | pa.Decimal256Type)
    )
