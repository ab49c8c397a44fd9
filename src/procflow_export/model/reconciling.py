"""What a published set is, compared with its source, and what that depends on.

Owns the words; how one follows from the other is decided in ``checks.judging``.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a chunk is, compared with its source; the later, the worse."""

    MATCH = "match"
    CHANGED = "changed"
    UNDECIDED = "undecided"
    WRONG = "wrong"


class Growth(StrEnum):
    """How the rows of a chunk come to be exported again, and so what a difference means."""

    WHOLE = "whole"
    """Every run exports its rows anew: nothing tells a change from a fault."""
    CURSOR = "cursor"
    """Later runs export the rows whose cursor has moved behind the stored position."""
    KEY = "key"
    """Later runs export the rows with keys behind the stored position."""
