"""What must not be shown of a source: its connection URL and its password, wherever they came from.

A driver or a traceback may repeat a connection string; the parent knows the secrets of every unit and takes them out before a
worker's lines reach an error, an event, a screen or a record.  How that is done is ``procflow.redaction``'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from procflow.record.redaction.redactor import Json, Redactor
from procflow.redaction import Redaction, Secret
from procflow.redaction.secret import SEARCHED_BYTES
from procflow_export.model.errors import ExportError
from procflow_export.model.settings import MASK, SourceConfig, SourceType
from procflow_export.model.urls import password_of
from procflow_export.sources.connection import server_address

MIN_SECRET_CHARS: Final = 3
"""Shorter ones would mask half of every text and protect nothing."""


def secrets_of(source: SourceConfig, environ: Mapping[str, str]) -> frozenset[Secret[str]]:
    """Return everything that gives access to ``source``, as far as it can be read here; a SQLite file has no secret."""
    if source.type is SourceType.SQLITE:
        return frozenset()
    return frozenset(_urls(source, environ)) | frozenset(_passwords(source, environ))


def secrets_of_all(sources: Iterable[SourceConfig], environ: Mapping[str, str]) -> frozenset[Secret[str]]:
    """Return the secrets of all ``sources``."""
    return frozenset(secret for source in sources for secret in secrets_of(source, environ))


def cleaner_of(secrets: Iterable[Secret[str]]) -> Callable[[Json], Json]:
    """Return what takes ``secrets`` out of a JSON value, as a record does, and short ones too.

    A record does not search texts for secrets of less than 8 bytes; the words of an export are few, and a password is a password.
    """
    known = frozenset(secrets)
    redactor = Redactor(searched(known))
    short = redaction_of(known - searched(known))
    if not short.values:
        return redactor.redact_json

    def clean(value: Json) -> Json:
        match value:
            case str():
                return short.clean_text(value)
            case Mapping():
                return {key: clean(item) for key, item in value.items()}
            case list() | tuple():
                return [clean(item) for item in value]
            case _:
                return value

    return lambda value: clean(redactor.redact_json(value))


def searched(secrets: Iterable[Secret[str]]) -> frozenset[Secret[str]]:
    """Return those of ``secrets`` that are long enough for a record to search for."""
    return frozenset(secret for secret in secrets if len(secret.reveal_bytes().rstrip(b"\r\n")) >= SEARCHED_BYTES)


def redaction_of(secrets: Iterable[Secret[str]]) -> Redaction:
    """Return what takes ``secrets`` out of a text, as written and percent-encoded, and passwords in other URLs too.

    Telling words are no rule here: ``InvalidPasswordError: ...`` is what an operator has to read.
    """
    plain = {secret.reveal() for secret in secrets}
    encoded = {encode(text, safe="") for text in plain for encode in (quote, quote_plus)}
    values = sorted(text for text in plain | encoded if len(text) >= MIN_SECRET_CHARS)
    return Redaction(words=(), values=tuple(values), mark=MASK)


def _urls(source: SourceConfig, environ: Mapping[str, str]) -> Iterator[Secret[str]]:
    for url in (source.url, environ.get(source.url_env) if source.url_env is not None else None):
        if url:
            with contextlib.suppress(ValueError):  # "url" is no URL
                yield Secret(url, name="url")


def _passwords(source: SourceConfig, environ: Mapping[str, str]) -> Iterator[Secret[str]]:
    written = [source.password, environ.get(source.password_env) if source.password_env is not None else None]
    for text in written:
        with contextlib.suppress(ExportError):  # what could not be sent was sent by nobody
            if (password := password_of(text)) is not None:
                yield password
    with contextlib.suppress(ExportError):  # what could not be read here, no worker could read either
        if (password := server_address(source, environ).password) is not None:
            yield password
