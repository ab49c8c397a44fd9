"""Ids of what is exported, derived from the names that a record gives: exporting twice gives the same ids.

Owns the derivation, and the header of W3C Trace Context.  Must not know spans or events of other systems.

None of these rules may ever change: what was exported by one release must be found again by the next.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from procflow.record.events import Trace
from procflow.record.fold.rows import CallKey, JobKey

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


def trace_id(run_id: str, trace: Trace | None = None) -> int:
    """Return the id of the trace of a run: that of the recorded parent, or the 128 bits of ``run_id``.

    A run id of another program that is no UUID is hashed.  The result is never zero.
    """
    if trace is not None and _TRACE_ID.fullmatch(trace.trace_id):
        return int(trace.trace_id, 16)
    return run_uuid(run_id).int or 1


def parent_span_id(trace: Trace | None) -> int | None:
    """Return the id of the span that a run belongs to; ``None`` if none was recorded."""
    if trace is None or not _TRACE_ID.fullmatch(trace.trace_id) or not _SPAN_ID.fullmatch(trace.parent_span_id):
        return None
    return int(trace.parent_span_id, 16)


def span_id(run_id: str, key: JobKey | CallKey | None = None) -> int:
    """Return the id of the span of a run, an attempt or a call: 8 bytes of a hash, never zero."""
    words = [run_id]
    match key:
        case CallKey():
            words += [key.job_id, str(key.attempt), str(key.sh)]
        case JobKey():
            words += [key.job_id, str(key.attempt)]
        case None:
            pass
    digest = hashlib.sha256()
    for word in words:
        # The length before each word: no two lists of words give the same bytes.
        data = word.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%s," % (len(data), data))
    return int.from_bytes(digest.digest()[:8]) or 1


def run_uuid(run_id: str) -> UUID:
    """Return ``run_id`` as a UUID; one that is none is named by one."""
    try:
        return UUID(run_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"urn:procflow:run:{run_id}")


def job_uuid(run_id: str, key: JobKey) -> UUID:
    """Return the UUIDv5 of one attempt at a job."""
    return uuid5(run_uuid(run_id), f"{key.attempt}:{key.job_id}")


def traceparent(run_id: str, key: JobKey | CallKey | None = None, *, trace: Trace | None = None) -> str:
    """Return the value of ``TRACEPARENT`` for what runs inside a call, an attempt or the run (W3C Trace Context, level 1).

    A child that is given the one of its own call makes its spans children of that call's, whether the run is exported before or
    after.  It says that the trace is sampled.

    Args:
        run_id: The run.
        key: The call or the attempt; the run itself by default.
        trace: The recorded parent of the run.
    """
    return f"00-{trace_id(run_id, trace):032x}-{span_id(run_id, key):016x}-01"


def parse_traceparent(text: str) -> Trace | None:
    """Return what a ``TRACEPARENT`` that was handed to this program says; ``None`` if it is not one.

    A later version may have more parts, which are ignored, as the standard asks.
    """
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None:
        return None
    version, trace, parent, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not _TRACE_ID.fullmatch(trace) or not _SPAN_ID.fullmatch(parent):
        return None
    return Trace(trace_id=trace, parent_span_id=parent)
