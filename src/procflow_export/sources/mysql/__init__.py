"""MySQL and MariaDB through aiomysql: raw result packets, decoded by column."""

from __future__ import annotations
