"""What somebody may have meant who named a program that does not exist.

Owns the distance between two names and the search of PATH.  Must not know how anything is started.

Rejected: ``difflib``'s ratio.  Two letters that changed places, the commonest mistake of all, cost a short name a third of
it: ``gti`` is as far from ``git`` as from ``ti``.
"""

from __future__ import annotations

import os
from collections import Counter

SHORT_NAME = 3
"""Names of at most this length may have one mistake in them, longer ones two."""


def near_program(program: str, path: str) -> str | None:
    """Return the executable on ``path`` whose name is nearest to ``program``, or ``None`` if none is near."""
    allowed = 1 if len(program) <= SHORT_NAME else 2
    letters = Counter(program)
    found: list[tuple[int, bool, bool, str, str]] = []
    for folder in dict.fromkeys(path.split(os.pathsep)):
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:
            continue
        for name in names:
            # A mistake changes at most one letter on each side: most names need no closer look.
            if abs(len(name) - len(program)) > allowed or (letters - Counter(name)).total() > allowed:
                continue
            mistakes = distance(program, name)
            if 0 < mistakes <= allowed and mistakes < len(name):
                has_others = Counter(name) != letters
                found.append((mistakes, has_others, name[0] != program[0], name, os.path.join(folder, name)))
    return next((name for *_, name, file in sorted(found) if os.path.isfile(file) and os.access(file, os.X_OK)), None)


def distance(left: str, right: str) -> int:
    """Return how many letters must be put in, left out, replaced or swapped with their neighbour to make one the other.

    This is the "optimal string alignment" form of the Damerau-Levenshtein distance.
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
