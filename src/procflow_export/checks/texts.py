"""Rows as CSV has them: texts, and no other values.

Owns both directions of a comparison with a CSV file, which does not say what type a cell had: the rows of the source are made the
texts that the export writes, and those of the file stay what they are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.csv

from procflow_export.checks.decoding import decompressed
from procflow_export.formats._arrow import Column
from procflow_export.formats.cells import TEXT, renderer_for
from procflow_export.model.settings import CsvOptions

BLOCK_BYTES: Final = 16 << 20
"""A row that is longer cannot be read back here."""


class TextForm:
    """The texts of one export's CSV parts."""

    def __init__(self, schema: pa.Schema, options: CsvOptions) -> None:
        """Prepare for rows of ``schema``.

        Args:
            schema: Columns as they come from the source.
            options: How the export writes.
        """
        self._renderers = [renderer_for(field.type, floats=options.floats) for field in schema]
        self.schema = pa.schema([pa.field(field.name, TEXT) for field in schema])
        self._options = options

    def of_source(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the texts of rows that came from the source."""
        cells: list[Column] = [
            render(column).cast(TEXT) for render, column in zip(self._renderers, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(cells, schema=self.schema)

    def of_file(self, file: BinaryIO, compression: str) -> Iterator[pa.RecordBatch]:
        """Yield the texts in a part.

        Raises:
            UNDECODABLE: If it is no such file, or has other columns.
        """
        options = self._options
        names = self.schema.names
        if options.header and self._header(file, compression) != names:
            raise OtherColumnsError
        with pa.csv.open_csv(
            decompressed(file, compression),  # type: ignore[arg-type]  # any file of Arrow's
            read_options=pa.csv.ReadOptions(
                block_size=BLOCK_BYTES, column_names=names, skip_rows=1 if options.header else 0, use_threads=False
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=options.delimiter, newlines_in_values=True, ignore_empty_lines=False
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, TEXT),
                null_values=[options.null_text],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ) as reader:
            for batch in reader:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def _header(self, file: BinaryIO, compression: str) -> list[str]:
        with decompressed(file, compression) as text:
            head = text.read(BLOCK_BYTES // 16)
        file.seek(0)
        return next(
            csv.reader(io.StringIO(head.decode(errors="replace"), newline=""), delimiter=self._options.delimiter), []
        )


class OtherColumnsError(ValueError):
    """A file has other columns than the source."""
