"""The processes engine's surroundings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.engines.units import Units


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
async def units(tmp_path: Path) -> Units:
    return await Units.over(tmp_path)
