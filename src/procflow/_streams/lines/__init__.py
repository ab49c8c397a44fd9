"""Bytes into lines and JSON values, and the readers of them."""

from __future__ import annotations
