"""Every destination that the conformance suite and the commit tests run against."""

from __future__ import annotations

from pathlib import Path

import pytest

from procflow_export.destinations.local import LocalDestination
from procflow_export.destinations.port import Destination, Owner
from tests.export.destinations.memory import MemoryDestination

OWNER = Owner(export="orders", run_id="run-1")


@pytest.fixture(params=["local-nameless", "local-named", "memory"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    if request.param == "memory":
        return MemoryDestination()
    return LocalDestination(tmp_path / "out" / "orders", owner=OWNER, nameless=request.param == "local-nameless")
