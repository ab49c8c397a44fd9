"""What escapes at which level: the table of the documentation, as values."""

from __future__ import annotations

from typing import Final

from procflow.testing import Hostile

LEVELS: Final = ("group", "guarded", "strict")

IN_GROUP: Final = frozenset(
    {
        Hostile.TERM_IGNORER,
        Hostile.STOPPED,
        Hostile.PIPE_HOLDER,
        Hostile.CLOSED_OUTPUTS,
        Hostile.PRINTS_WHILE_DYING,
    }
)
"""Who stays in the group of the leader."""

MARKED: Final = frozenset(Hostile) - {Hostile.BARE_DAEMON}
"""Who keeps the environment that it was given."""

HELD_BY_BLOCK: Final = {"group": IN_GROUP, "guarded": IN_GROUP, "strict": frozenset(Hostile)}
"""Who is gone when the block was left, or ``terminate()`` has returned."""

HELD_BY_DEATH: Final = {"group": frozenset[Hostile](), "guarded": MARKED, "strict": frozenset(Hostile)}
"""Who is gone within a second when the host was killed by SIGKILL."""
