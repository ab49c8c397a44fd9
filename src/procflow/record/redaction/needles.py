"""The forms in which a secret appears: raw, and as the usual tools write it.

Known holes: base64 that is broken into lines (``base64`` without ``-w0``), hexadecimal, HTML entities, forms of forms, and a
line of a secret in base64 of its own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote_from_bytes

from procflow.redaction.secret import SEARCHED_BYTES

_UNQUOTED: Final = re.compile(rb"[^\w@%+=:,./\x80-\xff-]", re.ASCII)
_SPECIAL_IN_DOUBLE_QUOTES: Final = re.compile(rb'[\\"$`]')
_HEXADECIMAL: Final = re.compile(r"%..")
_KEPT_BY_PERCENT_ENCODERS: Final = ("", "/", "!'()*", "/!'()*")
"""What is left as it is: by form encoders, ``urllib``, ``encodeURIComponent``, and a lenient encoder of paths."""


def stripped(value: bytes) -> bytes:
    """Return ``value`` without the newlines at its end, which a file has and a use of it has not."""
    return value.rstrip(b"\r\n")


def forms_of(value: bytes) -> frozenset[bytes]:
    """Return every form of ``value`` that is searched for: at least one, each of 8 bytes or more.

    A form is there once, however many encoders produce it: a secret of letters and digits has four to seven.

    Raises:
        ValueError: If the value, without the newlines at its end, is shorter than 8 bytes.
    """
    whole = stripped(value)
    if len(whole) < SEARCHED_BYTES:
        raise ValueError("a secret of less than 8 bytes is not searched for")
    parts = [whole]
    if b"\n" in whole:
        parts += [line for line in map(stripped, whole.split(b"\n")) if len(line) >= SEARCHED_BYTES]
    forms = {form for part in parts for form in _text_forms(part)}
    # That of the whole holds the base64 of every line.
    forms.update(_base64_forms(whole))
    return frozenset(forms)


def _text_forms(value: bytes) -> Iterator[bytes]:
    yield value
    text = value.decode("utf-8", "surrogateescape")
    for is_ascii in (True, False):
        escaped = json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode("utf-8", "surrogateescape")
        yield escaped
        yield escaped.replace(b"/", rb"\/")
    for kept in _KEPT_BY_PERCENT_ENCODERS:
        encoded = quote_from_bytes(value, safe=kept)
        for form in (encoded, encoded.replace("%20", "+")):
            yield form.encode()
            yield _HEXADECIMAL.sub(lambda escape: escape[0].lower(), form).encode()
    yield value.replace(b"'", b"'\"'\"'")
    yield value.replace(b"'", rb"'\''")
    yield _SPECIAL_IN_DOUBLE_QUOTES.sub(rb"\\\g<0>", value)
    yield _UNQUOTED.sub(rb"\\\g<0>", value)


def _base64_forms(value: bytes) -> Iterator[bytes]:
    # What stands before the secret shifts it by 0, 1 or 2 bytes.  The characters that hold bits of its neighbours are cut off.
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + value)
        first, last = -(-8 * shift // 6), 8 * (shift + len(value)) // 6
        inner = encoded[first:last]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
