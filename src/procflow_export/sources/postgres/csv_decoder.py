"""Blocks of ``COPY … (FORMAT csv)`` become Arrow batches.

Owns the reading of PostgreSQL's CSV: exact NULLs (an empty field without quotes), exact empty strings (a quoted one).

Two ways to the same result.  The fast one lets Arrow's reader parse the text straight into typed columns.  Where that
refuses a block, the slow one reads every field as text and converts column by column: it understands what Arrow's parser
does not (years before 1 and after 9999), and finds the row of a value that does not fit.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from pyarrow import csv

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, LogicalType, arrow_schema
from procflow_export.sources.arrays import Values
from procflow_export.sources.columns.conversions import text_conversion, text_fitting
from procflow_export.sources.columns.policies import MisfitError, fitted
from procflow_export.sources.columns.texts import decoded_texts
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.text_columns import Conversion, conversion_for, to_bytes

COPY_OPTIONS: Final = {"format": "csv", "encoding": "UTF8"}

_NEWLINE: Final = b"\n"
_QUOTE: Final = b'"'
_PARSE: Final = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)

_TYPED: Final = frozenset(
    {
        LogicalType.BOOL,
        LogicalType.INTEGER,
        LogicalType.FLOAT,
        LogicalType.DECIMAL,
        LogicalType.MONEY,
        LogicalType.DATE,
        LogicalType.TIME,
        LogicalType.TIMESTAMP,
        LogicalType.INSTANT,
    }
)
_MOMENTS: Final = frozenset({LogicalType.DATE, LogicalType.TIMESTAMP, LogicalType.INSTANT})


class CsvDecoder:
    """Decodes the blocks of one result, in order."""

    def __init__(self, columns: Sequence[Column], *, key: str | None = None) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order of the SELECT list.
            key: A column whose value names a row in errors.
        """
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        # Column names may hold anything; the reader's own names are numbers.
        self._names = [str(index) for index in range(len(self._columns))]
        self._typed = [_reader_type(column) for column in self._columns]
        self._key = next((at for at, column in enumerate(self._columns) if column.name == key), None)
        self._row_count = 0
        self.changed_values: Counter[str] = Counter()

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of the prefix that ends with a row: at the last newline that no quotes surround."""
        quotes = data.count(_QUOTE)
        stop = len(data)
        while (newline := data.rfind(_NEWLINE, 0, stop)) >= 0:
            quotes -= data.count(_QUOTE, newline, stop)
            if quotes % 2 == 0:
                return newline + 1
            stop = newline
        return 0

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block."""
        try:
            batch = self._decode_typed(block)
        except pa.ArrowInvalid:
            batch = self._decode_as_text(block)
        self._row_count += batch.num_rows
        return batch

    def _decode_typed(self, block: bytes) -> pa.RecordBatch:
        fields = self._read(block, self._typed)
        arrays = []
        for column, read_type, values in zip(self._columns, self._typed, fields, strict=True):
            is_final = values.type == column.arrow_type and read_type != pa.string()
            arrays.append(values if is_final else _conversion(column)(values))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _decode_as_text(self, block: bytes) -> pa.RecordBatch:
        fields = self._read(block, [pa.binary()] * len(self._columns))
        arrays = [self._convert(column, values, fields) for column, values in zip(self._columns, fields, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _convert(self, column: Column, values: Values, fields: Sequence[Values]) -> Values:
        try:
            texts, recoded_count = decoded_texts(values, column.on_invalid)
            converted, changed_count = fitted(texts, text_fitting(column, _conversion(column)), column.on_invalid)
        except MisfitError as exc:
            shown = values[exc.row].as_py().decode(errors="backslashreplace")
            raise ValueRefusedError(column, value=shown, place=self._place(exc.row, fields), reason=exc.reason) from exc
        if recoded_count + changed_count:
            self.changed_values[column.name] += recoded_count + changed_count
        return converted

    def _place(self, row: int, fields: Sequence[Values]) -> str:
        if self._key is None:
            return f"row {self._row_count + row + 1} of the chunk"
        key = fields[self._key][row].as_py()
        shown = "NULL" if key is None else key.decode(errors="replace")
        return f"{self._columns[self._key].name} = {shown}"

    def _read(self, block: bytes, types: Sequence[pa.DataType]) -> list[Values]:
        options = csv.ConvertOptions(
            column_types=dict(zip(self._names, types, strict=True)),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        )
        if block.startswith(BOM_UTF8):
            # The reader drops one mark at the beginning, and it is data here.
            block = BOM_UTF8 + block
        # One block of the reader for the whole buffer: rows are not cut a second time, columns have one piece each.
        reading = csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(block) + 1)
        table = csv.read_csv(
            pa.BufferReader(block),  # type: ignore[arg-type]  # the stubs lack Arrow's own files
            read_options=reading,
            parse_options=_PARSE,
            convert_options=options,
        )
        return [_one_piece(column) for column in table.columns]


def _reader_type(column: Column) -> pa.DataType:
    """Return the type that Arrow's reader shall produce for a column; text where it cannot produce the final one."""
    is_typed = column.logical_type in _TYPED and not pa.types.is_decimal256(column.arrow_type)
    return column.arrow_type if is_typed else pa.string()


def _conversion(column: Column) -> Conversion:
    if column.logical_type in _MOMENTS:
        return text_conversion(column.logical_type, column.arrow_type)
    return conversion_for(column, {LogicalType.BYTES: to_bytes})


def _one_piece(column: Values) -> Values:
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    raise SourceError(Code.SOURCE_FAILED, "the CSV reader cut a block of rows into pieces")
