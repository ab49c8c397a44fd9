r"""Blocks of text ``COPY`` become Arrow batches, by Arrow's own reader of delimited files.

Owns the reading of the format: tabs, newlines, ``\N``.  What a row holds has no raw tab or newline, so the reader needs no quotes
and no escapes.

Two ways to the same result.  The fast one parses typed columns; texts in which a backslash is left are unescaped in a second step.
Where the reader refuses a block, the reference decoder reads it: it understands what Arrow's parser does not (years before 1
and after 9999), and finds the row of a value that does not fit.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import csv

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, LogicalType, arrow_schema
from procflow_export.sources import sql
from procflow_export.sources.arrays import Values
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.postgres.decoding.reference import ReferenceDecoder, TextForm
from procflow_export.sources.postgres.decoding.text_cells import NULL

_NEWLINE: Final = b"\n"
_PARSE: Final = csv.ParseOptions(
    delimiter="\t", quote_char=False, escape_char=False, newlines_in_values=False, ignore_empty_lines=False
)
# A text has no NUL, which so stands for a backslash while the other escapes are undone.
_NUL: Final = "\0"
_BACKSLASH: Final = ord("\\")
_ESCAPES: Final = (("\\n", "\n"), ("\\t", "\t"), ("\\r", "\r"), ("\\b", "\b"), ("\\f", "\f"), ("\\v", "\v"))


def select_list(columns: Sequence[Column]) -> list[str]:
    """Return the expressions that the server is to send: what its output functions print is exact."""
    return [_projection(column) for column in columns]


def is_read_as_text(column: Column) -> bool:
    """Return whether Arrow's reader makes texts of a column, which cost it memory."""
    return pa.types.is_string(_reader_type(column))


class TextDecoder:
    """Decodes the blocks of one result, in order."""

    def __init__(self, columns: Sequence[Column], *, key: tuple[str, ...] = ()) -> None:
        """Prepare for the columns of a result, whose types Arrow's reader knows: see ``wire.py``.

        Args:
            columns: In the order of the SELECT list.
            key: Columns whose values name a row in errors.
        """
        self._schema = arrow_schema(columns)
        # Column names may hold anything; the reader's own names are numbers.
        self._names = [str(index) for index in range(len(columns))]
        self._options = csv.ConvertOptions(
            column_types=dict(zip(self._names, map(_reader_type, columns), strict=True)),
            null_values=[NULL.decode()],
            strings_can_be_null=True,
            true_values=["t"],
            false_values=["f"],
        )
        self._reference = ReferenceDecoder(columns, TextForm(columns), key=key)
        self.changed_values: Counter[str] = self._reference.changed_values

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of the prefix that ends with a row."""
        return data.rfind(_NEWLINE) + 1

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block."""
        try:
            arrays = self._read(block)
        except pa.ArrowInvalid:
            # Exactly, or with an error that says which value of which row it is.
            return self._reference.decode(block)
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._reference.row_names.row_count += batch.num_rows
        return batch

    def _read(self, block: bytes) -> list[Values]:
        if not block.endswith(_NEWLINE):
            raise pa.ArrowInvalid("a row has no end")
        if block.startswith(BOM_UTF8):
            # The reader drops one mark at the beginning, and it is data here.
            block = BOM_UTF8 + block
        # One block of the reader for the whole buffer: rows are not cut a second time, columns have one piece each.
        table = csv.read_csv(
            pa.BufferReader(block),  # type: ignore[arg-type]  # the stubs lack Arrow's own files
            read_options=csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(block) + 1),
            parse_options=_PARSE,
            convert_options=self._options,
        )
        return [
            _typed(_one_piece(column), field.type) for column, field in zip(table.columns, self._schema, strict=True)
        ]


def _projection(column: Column) -> str:
    name = sql.POSTGRES.identifier(column.name)
    match column.logical_type:
        case LogicalType.MONEY:
            # Its own text depends on the server's locale.
            return f"{name}::pg_catalog.numeric"
        case LogicalType.ARRAY:
            return f"pg_catalog.to_json({name})"
        case _:
            return name


def _reader_type(column: Column) -> pa.DataType:
    """Return the type that Arrow's reader produces for a column."""
    is_text = isinstance(column.arrow_type, pa.JsonType | pa.DictionaryType)
    return pa.string() if is_text else column.arrow_type


def _typed(values: Values, arrow_type: pa.DataType) -> Values:
    if pa.types.is_string(values.type):
        values = _unescaped(values)
    if isinstance(arrow_type, pa.Decimal128Type):
        # The reader looks at the precision before it appends the missing decimals, which may make too many digits.
        values.validate(full=True)
    if isinstance(arrow_type, pa.DictionaryType):
        return values.dictionary_encode().cast(arrow_type)
    return pa.ExtensionArray.from_storage(arrow_type, values) if isinstance(arrow_type, pa.JsonType) else values


def _unescaped(texts: Values) -> Values:
    if not _has_backslash(texts):
        return texts
    texts = pc.replace_substring(texts, "\\\\", _NUL)
    if _has_backslash(texts):
        for escape, character in _ESCAPES:
            texts = pc.replace_substring(texts, escape, character)
    return pc.replace_substring(texts, _NUL, "\\")


def _has_backslash(texts: Values) -> bool:
    data = texts.buffers()[2]
    return data is not None and bool((np.frombuffer(memoryview(data), np.uint8) == _BACKSLASH).any())


def _one_piece(column: Values) -> Values:
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    raise SourceError(Code.SOURCE_FAILED, "the reader cut a block of rows into pieces")
