"""Several streams as one."""

from __future__ import annotations
