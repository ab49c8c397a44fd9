"""Which records this release may read.

Owns the rule: a higher minor version is read, a higher major version is not, nor what requires a feature that we do not know.
Must not know files.
"""

from __future__ import annotations

import msgspec

from procflow.record.errors import UnreadableRecordError
from procflow.record.events import FEATURES, FORMAT


class _Header(msgspec.Struct, tag="run_started", tag_field="type"):
    # Of a record that we may not be able to read, so it asks for nothing.
    format: list[int] = []
    requires: list[str] = []


_headers = msgspec.json.Decoder(_Header)


def is_header(line: bytes, path: str) -> bool:
    """Whether ``line`` begins a record, readable or not.

    Raises:
        UnreadableRecordError: If it begins one that this release would misunderstand.
    """
    try:
        header = _headers.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    ours = ".".join(map(str, FORMAT))
    theirs = ".".join(map(str, header.format))
    if header.format and header.format[0] > FORMAT[0]:
        raise UnreadableRecordError(
            path=path, theirs=theirs, ours=ours, reason=f"its format is {theirs}, this release reads up to {ours}"
        )
    for feature in header.requires:
        if feature not in FEATURES:
            raise UnreadableRecordError(
                path=path,
                theirs=theirs,
                ours=ours,
                feature=feature,
                reason=f"it requires {feature!r}; its format is {theirs}, this release reads up to {ours}",
            )
    return True
