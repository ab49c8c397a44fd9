"""The state: what is remembered of runs, beside the configuration."""

from __future__ import annotations

from procflow_export.state.port import StateStore
from procflow_export.state.sqlite import open_state

__all__ = ("StateStore", "open_state")
