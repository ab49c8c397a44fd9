"""Fields of any length become Arrow arrays of texts, documents and bytes: one copy, no object for a value.

Owns what distinguishes them: texts are UTF-8, ``jsonb`` has a version in front, an enum is one of a few texts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from procflow_export.model.choices import OnInvalid
from procflow_export.sources.arrays import Values
from procflow_export.sources.columns.texts import decoded_texts
from procflow_export.sources.postgres.decoding.cells import NOT_UTF8
from procflow_export.sources.postgres.decoding.fields import Field, FramingError, Loose, Mask
from procflow_export.sources.postgres.decoding.fixed import validity
from procflow_export.sources.postgres.decoding.misfits import Misfits

_JSONB_VERSION: Final = 1
_ASCII_END: Final = 128
_BYTE: Final = np.dtype("u1")


def read_bytes(field: Field) -> Values:
    """Return bytes as they are."""
    return pa.Array.from_buffers(pa.binary(), len(field), [validity(field.is_null), *field.pieces()])


def read_texts(field: Field, misfits: Misfits) -> Values:
    """Return texts; bytes that are no UTF-8 do not fit, and are near to nothing, but they can be written out."""
    offsets, data = field.pieces()
    texts = pa.Array.from_buffers(pa.string(), len(field), [validity(field.is_null), offsets, data])
    if _is_ascii(data):
        return texts
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        if misfits.on_invalid is OnInvalid.TEXT:
            escaped, changed_count = decoded_texts(texts.cast(pa.binary()), OnInvalid.TEXT)
            misfits.changed_count += changed_count
            return escaped
        misfit = _not_utf8(texts)
        is_null = misfits.settle(misfit, field.is_null, hopeless=misfit, reason=NOT_UTF8)
        return pa.Array.from_buffers(pa.string(), len(field), [validity(is_null), offsets, data])
    return texts


def read_enums(field: Field, arrow_type: pa.DataType, misfits: Misfits) -> Values:
    """Return texts as entries of a dictionary, which is the block's own."""
    return read_texts(field, misfits).dictionary_encode().cast(arrow_type)


def read_json(field: Field, misfits: Misfits) -> Values:
    """Return documents, verbatim."""
    return pa.ExtensionArray.from_storage(pa.json_(), read_texts(field, misfits))


def read_jsonb(field: Field, misfits: Misfits) -> Values:
    """Return documents as the server prints them.

    Raises:
        FramingError: If their version is not the one that is known.
    """
    start, stop = field.start, field.stop
    known = field.block.gather(start, _BYTE) == _JSONB_VERSION
    known &= start < stop
    if field.is_null is not None:
        known |= field.is_null
    if not known.all():
        raise FramingError("a jsonb document of an unknown version")
    return read_json(Loose(field.block, np.minimum(start + 1, stop), stop, field.is_null), misfits)


def _is_ascii(data: pa.Buffer) -> bool:
    """Whether all bytes are ASCII: many times faster to see than UTF-8."""
    return not data.size or bool(np.frombuffer(memoryview(data), np.uint8).max() < _ASCII_END)


def _not_utf8(texts: Values) -> Mask:
    return np.array([value is not None and not _is_utf8(value) for value in texts.cast(pa.binary()).to_pylist()], bool)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
