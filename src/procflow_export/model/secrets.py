"""Which values of a configuration are secrets because of the name that they go by.

Owns the rule: a name that says ``password``, ``token`` or the like, as ``procflow.redaction`` knows them.  What gives access to a
source is a secret under any name; see ``engines.redaction``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from procflow.redaction import Secret, SecretPlaces

_PLACES: Final = SecretPlaces()
_NAME_WITHOUT_ONE: Final = ("parameter", "value")


def is_secret_name(name: str) -> bool:
    """Return whether what is called ``name`` must not be shown."""
    return _PLACES.is_secret_name(name)


def named_secrets(values: Iterable[tuple[str, object]]) -> frozenset[Secret[str]]:
    """Return the secrets among names and their values, as texts; ``None``, booleans and empty texts are none."""
    found = (
        secret_of(str(value), name)
        for name, value in values
        if is_secret_name(name) and not isinstance(value, bool) and value is not None
    )
    return frozenset(secret for secret in found if secret is not None)


def secret_of(text: str, name: str) -> Secret[str] | None:
    """Return a secret that is called ``name``, or something else where its name would give it away.

    ``None`` where there is nothing to hide: an empty text, or one that nobody can write.
    """
    for shown in (name, *_NAME_WITHOUT_ONE):
        try:
            return Secret(text, name=shown)
        except ValueError:  # the name cannot stand in a marker, or gives the value away; or there is no value
            continue
    return None
