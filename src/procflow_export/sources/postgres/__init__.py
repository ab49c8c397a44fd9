"""PostgreSQL through asyncpg: ``COPY`` out, decoded by column."""

from __future__ import annotations
