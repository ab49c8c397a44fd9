"""How a tree is ended."""

from __future__ import annotations
