"""Every test here proves that it left nothing behind, no claim on descriptors either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from procflow._supervision.descriptors import ACCOUNT
from tests.core.process.conftest import _no_leaks, _no_task_leaks

__all__ = ["_no_leaks", "_no_task_leaks"]


@pytest.fixture(autouse=True)
def _no_claims() -> Iterator[None]:
    yield
    assert (ACCOUNT.claims, ACCOUNT._pending, ACCOUNT._waiting) == (0, 0, {})
