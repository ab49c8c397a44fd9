"""What is taken out of a text before it is shown: the one place for the rules by which secrets are found.

``spans`` replaces what was found, ``matching`` finds known values, ``places`` finds secrets by the name or place where they
stand, ``policy`` applies them to the description of a command, ``secret`` is a value that shows itself as a mask.  The run
record builds on the same parts.  Must not know commands, records, nor who shows what is left.
"""

from __future__ import annotations

from procflow.redaction.places import SECRET_WORDS, Place, Rule, SecretPlaces
from procflow.redaction.policy import Redaction
from procflow.redaction.secret import Secret
from procflow.redaction.spans import Span, merged, replaced

__all__ = ("SECRET_WORDS", "Place", "Redaction", "Rule", "Secret", "SecretPlaces", "Span", "merged", "replaced")
