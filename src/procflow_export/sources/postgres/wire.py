"""In which of the formats of ``COPY`` a result travels.

Owns the choice, and what belongs to each format: the options of the statement, its SELECT list, and the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from procflow_export.model.types import Column
from procflow_export.sources.blocks import BlockDecoder
from procflow_export.sources.postgres.decoding.binary import BinaryDecoder
from procflow_export.sources.postgres.decoding.layout import layout_of


class DecoderFactory(Protocol):
    """Makes what decodes the blocks of one result."""

    def __call__(self, columns: Sequence[Column], *, key: str | None) -> BlockDecoder: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """One of the formats of ``COPY``.

    Attributes:
        copy_options: How the driver is asked for it.
        select_list: Returns the expressions that the server is to send, for columns in the order of batches.
        decoder: Makes what decodes a result of those columns; ``key`` is the column whose value names a row in errors.
    """

    copy_options: Mapping[str, str]
    select_list: Callable[[Sequence[Column]], Sequence[str]]
    decoder: DecoderFactory


BINARY: Final = WireFormat(
    copy_options={"format": "binary"},
    select_list=lambda columns: layout_of(columns).select_list(),
    decoder=BinaryDecoder,
)


def wire_format_for(columns: Sequence[Column]) -> WireFormat:
    """Return the format in which these columns travel with the least work for server and client together."""
    return BINARY
