"""Hypothesis strategies for every type of the wire format."""

from __future__ import annotations

from hypothesis import strategies as st

from procflow.record.events import (
    CancelRequested,
    ErrorInfo,
    EventsDropped,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RedactionInfo,
    RunEvent,
    RunFinished,
    RunStarted,
    ShFinished,
    ShSpawned,
    ShStarted,
    Totals,
    Trace,
    Usage,
)

ints = st.integers(min_value=-(2**63), max_value=2**63 - 1)
counts = st.integers(min_value=0, max_value=2**63 - 1)
# Everything but halves of surrogate pairs, which JSON in UTF-8 has no bytes for.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.lists(texts, max_size=3).map(tuple)
maybe_text = st.none() | texts
maybe_count = st.none() | counts
json_values = st.recursive(
    st.none() | st.booleans() | ints | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
errors = st.none() | st.builds(ErrorInfo, type=texts, message=texts)
envelope = {
    "seq": counts,
    "at_ms": ints,
    "mono_ns": counts,
    "cut": st.none() | st.dictionaries(texts, counts, max_size=2),
}
attempt = {"job_id": texts, "attempt": counts}
call = {**attempt, "sh": counts}

BY_TYPE: dict[type[RunEvent], st.SearchStrategy[RunEvent]] = {
    RunStarted: st.builds(
        RunStarted,
        **envelope,
        format=st.tuples(counts, counts),
        run_id=texts,
        name=texts,
        procflow=texts,
        python=texts,
        platform=texts,
        host=texts,
        pid=ints,
        redaction=st.builds(RedactionInfo, enabled=st.booleans(), rules=names, argv=texts),
        requires=names,
        meta=st.none() | st.dictionaries(texts, texts, max_size=3),
        pid_start=maybe_count,
        boot_id=maybe_text,
        trace=st.none() | st.builds(Trace, trace_id=texts, parent_span_id=texts),
    ),
    JobDeclared: st.builds(JobDeclared, **envelope, job_id=texts, after=names),
    JobStarted: st.builds(JobStarted, **envelope, **attempt),
    ShStarted: st.builds(
        ShStarted,
        **envelope,
        **call,
        argv=names,
        cmd=texts,
        cwd=texts,
        argv_b64=st.none() | names,
        cwd_b64=maybe_text,
        shell=st.booleans(),
        env_set=names,
        env_unset=names,
        env=st.none() | st.dictionaries(texts, texts, min_size=1, max_size=2),
        timeout_ms=maybe_count,
        log=maybe_text,
        pipe=maybe_text,
    ),
    ShSpawned: st.builds(ShSpawned, **envelope, **call, pid=ints, pid_start=maybe_count),
    ShFinished: st.builds(
        ShFinished,
        **envelope,
        **call,
        outcome=texts,
        duration_ns=ints,
        stdout_bytes=counts,
        stderr_bytes=counts,
        exit_code=st.none() | ints,
        signal=maybe_text,
        log_dropped_bytes=counts,
        escalated=st.booleans(),
        usage=st.none() | st.builds(Usage, user_us=counts, sys_us=counts, max_rss_kb=counts),
        error=errors,
    ),
    JobFinished: st.builds(JobFinished, **envelope, **attempt, outcome=texts, duration_ns=ints, error=errors),
    JobSkipped: st.builds(JobSkipped, **envelope, job_id=texts, because=names),
    Note: st.builds(
        Note, **envelope, key=texts, value=json_values, job_id=maybe_text, attempt=maybe_count, sh=maybe_count
    ),
    CancelRequested: st.builds(CancelRequested, **envelope, reason=texts, signal=maybe_text),
    EventsDropped: st.builds(EventsDropped, **envelope, count=counts, first_seq=counts, last_seq=counts, reason=texts),
    RunFinished: st.builds(
        RunFinished,
        **envelope,
        outcome=texts,
        duration_ns=ints,
        totals=st.builds(Totals, jobs=counts, sh=counts, dropped=counts, redacted=counts),
    ),
}

any_event = st.one_of(*BY_TYPE.values())
