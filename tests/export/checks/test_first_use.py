"""What several threads do for the first time at once."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).parents[3] / "src" / "procflow_export"


def test_structs_are_decoded_by_decoders_that_were_made_at_import() -> None:
    """E-46: no thread prepares a type for msgspec: it does so when a type is first decoded, and two at once end the process.

    Seen with msgspec 0.22 and CPython 3.11 as a segmentation fault in one of twenty runs that read several manifests at once.
    """
    of_structs = re.compile(r"json\.decode\([^\n]*type=(?!Tree\)|dict)")

    found = [str(path) for path in SOURCE.rglob("*.py") if of_structs.search(path.read_text())]

    assert found == []
