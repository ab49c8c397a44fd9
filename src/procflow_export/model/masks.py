"""What stands in the place of a secret, in whatever is shown of a value that holds one."""

from __future__ import annotations

from typing import Final

import msgspec

MASK: Final = "***"


def masked_repr(struct: msgspec.Struct, *secret: str) -> str:
    """Return the ``repr`` of a struct with a mask for the fields named, and without those that are ``None``."""
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    shown = [f"{name}={MASK if name in secret else repr(value)}" for name, value in values if value is not None]
    return f"{type(struct).__name__}({', '.join(shown)})"
