"""What can be given to several children one after the other, or at once.

Owns the check.  Must not know who starts them.
"""

from __future__ import annotations

import os
from typing import TypeAlias

from procflow._process.stdio.plans import Stdio

RepeatableStdin: TypeAlias = "Stdio | bytes | str | os.PathLike[str] | os.PathLike[bytes]"
"""Standard input that every child can be given anew: a place, bytes or a text to feed, a path.

Not an iterable or an open file, which the first child would use up.
"""


def require_repeatable(stdin: object) -> None:
    """Raise unless every child can be given ``stdin`` from its beginning."""
    if not isinstance(stdin, (Stdio, bytes, str, os.PathLike)):
        raise TypeError(
            f"stdin must be a place, bytes, a str or a path, not {type(stdin).__name__}: the first child would use it up"
        )
