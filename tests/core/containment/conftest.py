"""Every test here proves that it left nothing behind, and nobody of it outlives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.containment.hosts import Cookie
from tests.core.process.conftest import _no_leaks, _no_task_leaks, observed

__all__ = ("_no_leaks", "_no_task_leaks", "observed")


@pytest.fixture
def cookie(tmp_path: Path) -> Iterator[Cookie]:
    made = Cookie(tmp_path)
    yield made
    made.end()


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """What the host runs on."""
    return str(request.param)
