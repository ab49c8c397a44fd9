"""History that does not stay in memory."""

from __future__ import annotations
