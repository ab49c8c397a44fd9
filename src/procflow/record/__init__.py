"""The record of a run: what every line of an event stream looks like, and how lines are written and read.

Owns the envelope and the codec today; the recorder, its sinks, the fold and the readers join it here.
"""

from __future__ import annotations

from procflow.record.envelope import UNSTAMPED, Event, EventCodec, Head, MalformedEventError, Unknown, stamped

__all__ = ("UNSTAMPED", "Event", "EventCodec", "Head", "MalformedEventError", "Unknown", "stamped")
