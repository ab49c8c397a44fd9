"""Several commands joined by kernel pipes, and what their endings add up to."""

from __future__ import annotations
