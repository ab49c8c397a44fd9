"""Sources that the runs of these tests read; what a query makes needs no table."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def postgres(postgres_url: str) -> dict[str, Any]:
    return {"type": "postgres", "url": postgres_url, "environment": "local", "tls": {"mode": "disable"}}


@pytest.fixture
def mariadb(mariadb_url: str) -> dict[str, Any]:
    return {"type": "mysql", "url": mariadb_url, "environment": "local", "tls": {"mode": "disable"}}
