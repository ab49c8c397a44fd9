"""The variable by which a guard finds what has left its group.

Owns names and values of such variables.  Must not know who sets or looks for them.

Each host has a variable of its own, so nested hosts do not hide each other: a process carries the variables of all the
hosts above it.  The value is that of one spawn, so one tree can be let go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "PROCFLOW_HOST_"


def new_variable() -> str:
    """Return a name that no other host has."""
    return PREFIX + os.urandom(6).hex()


def outer_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of ``environment`` that hosts above this one have set: a replaced environment must keep them."""
    return {name: text for name, text in environment.items() if name.startswith(PREFIX)}
