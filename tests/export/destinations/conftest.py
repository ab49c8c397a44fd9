"""Every destination that the conformance suite and the commit tests run against."""

from __future__ import annotations

from pathlib import Path

import pytest

from procflow_export.destinations.local import LocalDestination
from procflow_export.destinations.port import Destination, Owner
from tests.export.destinations.buckets import destination_in
from tests.export.destinations.memory import MemoryDestination
from tools.pytest_servers import fresh_bucket
from tools.servers.buckets import StoreKind

OWNER = Owner(export="orders", run_id="run-1")


STORES: tuple[StoreKind, ...] = ("s3", "gcs", "azure")


@pytest.fixture(params=["local-nameless", "local-named", "memory", *STORES])
def destination(request: pytest.FixtureRequest, tmp_path: Path, pytestconfig: pytest.Config) -> Destination:
    match request.param:
        case "memory":
            return MemoryDestination()
        case "s3" | "gcs" | "azure" as kind:
            return destination_in(fresh_bucket(kind, pytestconfig))
        case _:
            return LocalDestination(
                tmp_path / "out" / "orders", owner=OWNER, nameless=request.param == "local-nameless"
            )
