"""From a source into the log: when to read, how much, and whom to wake."""

from __future__ import annotations
