"""Observers that hand the events of processes to other systems: ``procflow.observe(log_events())``.

Nothing here is imported by the rest of the package, and OpenTelemetry only by the call that needs it.
"""

from __future__ import annotations

from procflow.adapters.logs import log_events
from procflow.adapters.otel import otel_events

__all__ = ("log_events", "otel_events")
