"""The variable by which a guard finds what has left its group.

Owns names and values of such variables.  Must not know who sets or looks for them.

Each host has a variable of its own, so nested hosts do not hide each other: a process carries the variables of all the
hosts above it.  The value is that of one spawn, so one tree can be let go.
"""

from __future__ import annotations

import os

from procflow.command import HOST_VARIABLE_PREFIX


def new_variable() -> str:
    """Return a name that no other host has."""
    return HOST_VARIABLE_PREFIX.decode() + os.urandom(6).hex()
