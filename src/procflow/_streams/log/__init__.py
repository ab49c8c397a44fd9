"""The ordered log and the cursors on it: every rule of delivery, as pure code."""

from __future__ import annotations
