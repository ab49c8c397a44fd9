"""Children on a terminal: one made for them, or ours."""

from __future__ import annotations
