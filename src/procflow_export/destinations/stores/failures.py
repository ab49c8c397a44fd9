"""What obstore says went wrong, as one of our codes and one sentence.

Owns the reading of obstore's texts: its exceptions carry no status and no code, and their texts hold the whole request,
signed URLs included.  So nothing of a text is repeated but what is known to be harmless, and the exception itself is not
chained: whoever prints a traceback must not print a signature with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError

STORE_ERRORS: Final = (BaseError, OSError, ValueError)
"""Whatever a call of obstore raises; its writers raise ``OSError``."""
MAX_WORDS_CHARS: Final = 200

_STATUS: Final = re.compile(r"status code: (?P<status>[1-5]\d\d)")
_CODE: Final = re.compile(r"<Code>(?P<code>[A-Za-z0-9._-]{1,80})</Code>")
_WORDS: Final = re.compile(r"<Message>(?P<words>[^<\n]*)")
_VARIANT: Final = re.compile(r"source: ([A-Z][A-Za-z]+)")
"""How obstore calls what is wrong, a word of its own."""
_URL: Final = re.compile(r"\S*(?:://|[?&]\w+=)\S*")
_ASKED: Final = re.compile(r"Error performing [A-Z]+ https?://(?P<host>[^/\s:]+)")
_IDENTITY_HOSTS: Final = re.compile(
    r"169\.254\.\d+\.\d+|metadata\.google\.internal|metadata|sts\..*|.*oauth2.*\.googleapis\.com|login\.microsoftonline\..*"
)
"""Who is asked who we are, where the environment says nothing."""

_DENIED: Final = frozenset(
    ["ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"]
)
"""S3 answers some of these with 400."""
_MISPLACED: Final = frozenset(
    [
        "NoSuchBucket",
        "ContainerNotFound",
        "ContainerBeingDeleted",
        "InvalidBucketName",
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "NotImplemented",
    ]
)
_FULL: Final = frozenset(
    [
        "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded",
        "QuotaExceeded",
        "InsufficientStorage",
        "InsufficientCapacity",
        "StorageQuotaExceeded",
    ]
)
_PASSING: Final = frozenset(
    [
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "OperationAborted",
        "ConditionalRequestConflict",
        # The completion of an upload that was completed before, its answer lost: S3's word and Azure's.
        "NoSuchUpload",
        "InvalidBlockList",
        "InternalError",
        "ServiceUnavailable",
        "ServerBusy",
    ]
)
_PASSING_STATUS: Final = frozenset([408, 429, 499])
_KINDS: Final = {
    "kind: Timeout": "no answer in time",
    "kind: Connect": "no connection",
    "kind: Interrupted": "the connection was cut",
    "kind: Request": "the connection was cut",
    "kind: Decode": "the answer was cut short",
}


@contextmanager
def explained(step: str, location: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what obstore raises into one of our errors; what is ``passing`` is an answer, not a failure."""
    try:
        yield
    except passing:
        raise
    except STORE_ERRORS as exc:
        raise failure(step, location, exc) from None  # its text holds the request, signed


def failure(step: str, location: str, exc: Exception) -> DestinationError:
    """Return the error that ``exc`` is, in words without a secret."""
    text = str(exc)
    code, reason = _judged(exc, text)
    error = DestinationError(code, f"cannot {step} at {location}: {reason}")
    if words := _words(text):
        error.add_note(f"the store says: {words}")
    return error


def is_missing_bucket(exc: FileNotFoundError) -> bool:
    """Return whether not only an object is missing, but all of its place."""
    return bool(_MISPLACED & set(_CODE.findall(str(exc))))


def _judged(exc: Exception, text: str) -> tuple[Code, str]:
    found = _STATUS.search(text)
    status = None if found is None else int(found["status"])
    said = _CODE.search(text)
    name = None if said is None else said["code"]
    if (who := _ASKED.search(text)) is not None and _IDENTITY_HOSTS.fullmatch(who["host"]):
        if status is not None and status >= 500:
            return Code.DESTINATION_UNAVAILABLE, f"{who['host']}, which knows our identity, answers with {status}"
        return Code.DESTINATION_DENIED, f"no credentials are configured, and {who['host']} gives none"
    reason = " ".join(str(part) for part in (status, name) if part is not None) or _kind(text)
    return _code(exc, status, name, text), reason


def _code(exc: Exception, status: int | None, name: str | None, text: str) -> Code:
    if name in _FULL or status == 507:
        return Code.DESTINATION_FULL
    if name in _DENIED or isinstance(exc, (PermissionDeniedError, UnauthenticatedError)) or status in (401, 403):
        return Code.DESTINATION_DENIED
    if name in _PASSING or status in _PASSING_STATUS or (status is not None and status >= 500 and status != 501):
        return Code.DESTINATION_UNAVAILABLE
    if name in _MISPLACED or status in (301, 307, 308, 404, 501):
        return Code.DESTINATION_NOT_USABLE
    if status is not None:
        return Code.DESTINATION_FAILED
    if isinstance(exc, (InvalidPathError, NotSupportedError, UnknownConfigurationKeyError, FileNotFoundError)):
        return Code.DESTINATION_NOT_USABLE
    if "invalid peer certificate" in text or ("HTTP error" not in text and "kind: " not in text):
        return Code.DESTINATION_NOT_USABLE  # settings that obstore refuses before it sends anything
    return Code.DESTINATION_NOT_USABLE if "kind: Builder" in text else Code.DESTINATION_UNAVAILABLE


def _kind(text: str) -> str:
    if "invalid peer certificate" in text:
        return "the certificate of the endpoint is not trusted"
    if "kind: Builder" in text:
        return "the endpoint is plain http, which must be allowed"
    known = next((words for kind, words in _KINDS.items() if kind in text), None)
    if known is not None:
        return known
    variant = _VARIANT.search(text)
    return "obstore refuses it" + (f" ({variant[1]})" if variant is not None else "")


def _words(text: str) -> str:
    """Return what the server wrote for people, without anything that looks like an address."""
    found = _WORDS.search(text)
    return "" if found is None else _URL.sub("…", found["words"]).strip()[:MAX_WORDS_CHARS]
