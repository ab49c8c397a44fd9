"""Blocks of ``COPY`` become Arrow batches: one decoder for each wire format, and the slow one that says what is right."""

from __future__ import annotations
