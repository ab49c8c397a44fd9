"""SQLite files through the standard library, read-only, in worker threads."""

from __future__ import annotations
