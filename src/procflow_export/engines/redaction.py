"""What must not be shown of an export.

That is its source's connection URL and password and its destination's keys, wherever they came from, and the values of variables and parameters with the name
of a secret.  A driver, a server or a traceback may repeat them; the parent knows the secrets of every unit and takes them out before a failure or
a worker's lines reach an event, a screen or a record.  How that is done is ``procflow.redaction``'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from procflow.record.redaction.redactor import Json, Redactor
from procflow.redaction import Redaction, Rule, Secret, SecretPlaces, merged, replaced
from procflow.redaction.secret import SEARCHED_BYTES
from procflow_export.destinations.stores.credentials import secret_texts
from procflow_export.engines.spellings import cuts, spellings
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.errors import ExportError
from procflow_export.model.masks import MASK
from procflow_export.model.plan import WorkUnit
from procflow_export.model.secrets import secret_of
from procflow_export.model.settings import SourceConfig, SourceType
from procflow_export.model.urls import password_of
from procflow_export.planning.plan import Target
from procflow_export.sources.connection import server_address, source_url

MIN_SECRET_CHARS: Final = 3
"""Shorter ones would mask half of every text and protect nothing."""
_IN_URLS: Final = SecretPlaces(rules=frozenset({Rule.URL}))


def secrets_of(source: SourceConfig, environ: Mapping[str, str]) -> frozenset[Secret[str]]:
    """Return everything that gives access to ``source``, as far as it can be read here; a SQLite file has no secret."""
    if source.type is SourceType.SQLITE:
        return frozenset()
    return frozenset(_urls(source, environ)) | frozenset(_passwords(source, environ))


def secrets_of_unit(unit: WorkUnit, environ: Mapping[str, str]) -> frozenset[Secret[str]]:
    """Return the secrets of a unit of work."""
    named = (secret_of(text, "parameter") for text in unit.secrets)
    return _access(unit.source, unit.destination, environ) | {secret for secret in named if secret is not None}


def secrets_of_targets(targets: Iterable[Target], environ: Mapping[str, str]) -> frozenset[Secret[str]]:
    """Return the secrets of all ``targets``."""
    return frozenset().union(
        *(target.secrets | _access(target.source, target.destination, environ) for target in targets)
    )


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
    """Return what takes ``secrets`` out of a text, in each of their spellings, and passwords in other URLs too.

    Telling words are no rule here: ``InvalidPasswordError: ...`` is what an operator has to read.
    """
    spelled = (text for secret in secrets for text in spellings(secret.reveal()))
    values = sorted({text for text in spelled if len(text) >= MIN_SECRET_CHARS})
    return Redaction(words=(), values=tuple(values), mark=MASK)


def text_cleaner(secrets: Iterable[Secret[str]]) -> Callable[[str], str]:
    """Return what takes ``secrets`` out of a text as ``redaction_of()`` does, and what is left of those that were cut."""
    redaction = redaction_of(secrets)

    def clean(text: str) -> str:
        text = redaction.clean_text(text)
        spans = merged(cuts(text, redaction.values))
        return replaced(text, spans, lambda _: MASK) if spans else text

    return clean


def _access(source: SourceConfig, destination: DestinationConfig, environ: Mapping[str, str]) -> frozenset[Secret[str]]:
    keys = (secret_of(text, "credential") for text in secret_texts(destination, environ))
    return secrets_of(source, environ) | {secret for secret in keys if secret is not None}


def _urls(source: SourceConfig, environ: Mapping[str, str]) -> Iterator[Secret[str]]:
    with contextlib.suppress(ExportError):
        url = source_url(source, environ) or ""
        if (whole := secret_of(url, "url")) is not None:
            yield whole
        # As it stands there: a URL may be encoded in more than one way.
        for place in _IN_URLS.in_text(url):
            if (part := secret_of(url[place.start : place.stop], "login")) is not None:
                yield part


def _passwords(source: SourceConfig, environ: Mapping[str, str]) -> Iterator[Secret[str]]:
    written = [source.password, environ.get(source.password_env) if source.password_env is not None else None]
    for text in written:
        with contextlib.suppress(ExportError):  # what could not be sent was sent by nobody
            if (password := password_of(text)) is not None:
                yield password
    with contextlib.suppress(ExportError):  # what could not be read here, no worker could read either
        if (password := server_address(source, environ).password) is not None:
            yield password
