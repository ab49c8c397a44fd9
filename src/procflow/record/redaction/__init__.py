"""What is taken out between the recorder and everything that keeps or shows a record.

``needles`` knows the forms in which a secret appears, ``matching`` finds them, ``markers`` says what stands in their place,
``rules`` finds secrets that nobody named, ``stream`` does it for bytes that arrive in pieces, ``redactor`` is the value that
holds all of it.  Stands on ``procflow.redaction``, which owns the rules that commands share.  Must not know events, logs,
clocks or files.
"""

from __future__ import annotations

from procflow.record.redaction.redactor import RedactionStatistics, Redactor, ShortSecretWarning
from procflow.record.redaction.rules import RedactionRules
from procflow.record.redaction.stream import Piece, StreamRedactor
from procflow.redaction.secret import Secret

__all__ = (
    "Piece",
    "RedactionRules",
    "RedactionStatistics",
    "Redactor",
    "Secret",
    "ShortSecretWarning",
    "StreamRedactor",
)
