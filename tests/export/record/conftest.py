"""Fixtures of the tests of recorded runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.pipeline.runs import BACKENDS, Shop


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
