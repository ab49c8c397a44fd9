"""What must not be shown of a worker's words: the secrets of the source it was given.

A driver or a traceback may repeat a connection string; the parent knows the secrets of every unit and masks them before a worker's
lines reach an error, an event or a screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from procflow_export.model.errors import ExportError
from procflow_export.model.settings import MASK, SourceConfig, SourceType
from procflow_export.sources.connection import server_address

MIN_SECRET_CHARS: Final = 3
"""Shorter ones would mask half of every text and protect nothing."""


def secrets_of(source: SourceConfig, environ: Mapping[str, str]) -> frozenset[str]:
    """Return every text that gives access to ``source``: its URL and its password, as written and percent-encoded."""
    found = {source.url, source.password}
    if source.url_env is not None:
        found.add(environ.get(source.url_env))
    if source.password_env is not None:
        found.add(environ.get(source.password_env))
    if source.type is not SourceType.SQLITE:
        try:
            password = server_address(source, environ).password
        except ExportError:
            password = None  # it could not be read here, so no worker could read it either
        if password is not None:
            found.add(password.reveal())
    plain = {text for text in found if text}
    encoded = {encode(text, safe="") for text in plain for encode in (quote, quote_plus)}
    return frozenset(text for text in plain | encoded if len(text) >= MIN_SECRET_CHARS)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every secret replaced, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
