"""Rows of a result become Arrow batches, column by column: framing, fields, and the types' own arithmetic."""

from __future__ import annotations
