"""Tests of what is left of trees when their host is gone: nobody of one test outlives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .hosts import Cookie


@pytest.fixture
def cookie(tmp_path: Path) -> Iterator[Cookie]:
    made = Cookie(tmp_path)
    yield made
    made.end()


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """What the host runs on."""
    return str(request.param)
