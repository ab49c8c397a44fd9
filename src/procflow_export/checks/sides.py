"""The two sides of a comparison: what the files of a chunk hold, and what the source gives for it.

Owns what is found out of each side in one pass over its rows, in bounded memory.  Must not know how rows of a source come here.

Everything here blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import pyarrow as pa

from procflow_export.checks.decoding import UNDECODABLE, opened_part, parquet_batches, parquet_schema
from procflow_export.checks.texts import OtherColumnsError, TextForm
from procflow_export.checks.values import ValueChecksums, recorded_figures
from procflow_export.destinations import Destination
from procflow_export.model.plan import PartRecord
from procflow_export.model.settings import Format, FormatOptions
from procflow_export.model.types import Column, arrow_schema, fields_fingerprint

WORD: Final = 1 << 64
Take = Callable[[pa.RecordBatch], object]
"""Takes the rows of a batch."""


@dataclass(slots=True, kw_only=True)
class FileSide:
    """What the parts of a chunk hold.

    Attributes:
        sums: Their rows and checksums, as far as they could be read.
        is_readable: Whether every part is there and can be decoded.
        has_same_columns: Whether their columns are those of the source.
        is_as_read: Whether they hold what was read from the source; None if that was not recorded.
    """

    sums: ValueChecksums
    is_readable: bool = True
    has_same_columns: bool = True
    is_as_read: bool | None = None


@dataclass(slots=True)
class Form:
    """In which form rows are compared: with their types, or as the texts of CSV.

    Attributes:
        columns: The columns as the source has them now.
        options: How the export writes.
    """

    columns: Sequence[Column]
    options: FormatOptions
    schema: pa.Schema = field(init=False)
    _source_schema: pa.Schema = field(init=False)
    _texts: TextForm | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.schema = self._source_schema = arrow_schema(self.columns)
        if self.options.format is Format.CSV:
            self._texts = TextForm(self._source_schema, self.options.csv)
            self.schema = self._texts.schema

    def sums(self) -> ValueChecksums:
        """Return checksums of no rows."""
        return ValueChecksums(self.schema)

    def of_source(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows of the source in this form."""
        return batch if self._texts is None else self._texts.of_source(batch)

    def read_files(
        self, destination: Destination, parts: Sequence[PartRecord], heed: Callable[[int], object], *takes: Take
    ) -> FileSide:
        """Read the parts of a chunk, and give all their rows to each of ``takes``; what is wrong with a part is in the result.

        Raises:
            DestinationError: If the destination fails.
        """
        side = FileSide(sums=self.sums())
        digests_match = True
        for part in parts:
            try:
                with opened_part(destination, part.key, heed) as (digest, file):
                    digests_match &= digest == part.checksum
                    try:
                        for batch in self._batches(file, part):
                            heed(0)
                            for take in (side.sums.add, *takes):
                                take(batch)
                    except OtherColumnsError:
                        side.has_same_columns = False
                    except UNDECODABLE:
                        side.is_readable = False
            except FileNotFoundError:
                side.is_readable = False
        side.is_as_read = digests_match if self._texts is not None else self._is_as_read(side, parts)
        return side

    def _batches(self, file: BinaryIO, part: PartRecord) -> Iterator[pa.RecordBatch]:
        if self._texts is not None:
            return self._texts.of_file(file, self.options.compression.value) if part.row_count else iter(())
        if fields_fingerprint(parquet_schema(file)) != fields_fingerprint(self._source_schema):
            raise OtherColumnsError
        return parquet_batches(file)

    def _is_as_read(self, side: FileSide, parts: Sequence[PartRecord]) -> bool | None:
        total = [0] * (len(self.columns) + 1)
        try:
            for part in parts:
                recorded = recorded_figures(part.values, len(self.columns))
                if recorded is None:
                    return None
                total = [(one + other) % WORD for one, other in zip(total, recorded, strict=True)]
        except ValueError:
            return None
        return tuple(total) == side.sums.figures and side.sums.row_count == sum(part.row_count for part in parts)
