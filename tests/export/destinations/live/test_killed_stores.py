"""Stores that keep objects on disk, killed in the middle of a publication and started again on the same disk."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from procflow_export import ExitStatus
from tests.export.destinations.live.shops import ROWS, TIMEOUT_S, Shop
from tools.pytest_servers import own_store
from tools.servers import StoreKind
from tools.servers.faults import Break, Fault, fault_proxy

pytestmark = pytest.mark.stores

MOMENTS: Final = {
    "part": r"orders.*-c00001-",
    "run manifest": r"/orders/manifest-.*json",
    "manifest": r"/orders/manifest\.json",
    "marker": r"/orders/_SUCCESS",
}
CASES: Final[list[tuple[StoreKind, str]]] = [*(("azure", moment) for moment in MOMENTS), ("rclone", "part")]


@pytest.mark.parametrize("what", [Break.STALL, Break.HOLD_ANSWER], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize(("kind", "moment"), CASES)
def test_a_store_that_is_killed_and_comes_back_costs_nothing(
    tmp_path: Path, kind: StoreKind, moment: str, what: Break
) -> None:
    """E-44: SIGKILL of the store at a put, done or not: the run waits for it to come back, and publishes."""
    with own_store(kind) as (server, store), fault_proxy(store.endpoint) as proxy:
        shop = Shop(tmp_path, store)
        config = shop.config(proxy.url, max_retries=3, retry_backoff_ms=1)
        assert shop.run(config).status == 0
        proxy.inject(Fault(what=what, method="PUT", target=MOMENTS[moment]))

        def kill(_: subprocess.Popen[str]) -> None:
            assert proxy.stalled.wait(TIMEOUT_S)
            server.kill()
            proxy.release()
            server.start()

        ended = shop.run(config, when=kill)

        assert ended.status == 0, ended.err
        for table in ROWS:
            assert shop.published(table) == sorted(shop.expected(table), key=str)
            assert shop.unnamed(table) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["part", "manifest"])
def test_a_store_that_stays_dead_ends_the_run_and_keeps_the_old_set(tmp_path: Path, moment: str) -> None:
    """E-44: SIGKILL of the store: the run says that a retry is worth it, the old set is there, and the next run publishes."""
    with own_store("azure") as (server, store), fault_proxy(store.endpoint) as proxy:
        shop = Shop(tmp_path, store)
        config = shop.config(proxy.url, max_retries=0)
        assert shop.run(config).status == 0
        before = shop.published("orders")
        proxy.inject(Fault(what=Break.STALL, method="PUT", target=MOMENTS[moment]))

        def kill(_: subprocess.Popen[str]) -> None:
            assert proxy.stalled.wait(TIMEOUT_S)
            server.kill()
            proxy.release()

        ended = shop.run(config, when=kill)

        assert ended.status == ExitStatus.RETRY, ended.err
        assert ended.verdicts["orders"]["failure"]["code"] == "DESTINATION_UNAVAILABLE"
        server.start()
        assert shop.published("orders") == before
        assert shop.run(config).status == 0
        for table in ROWS:
            assert shop.published(table) == sorted(shop.expected(table), key=str)
            assert shop.unnamed(table) == []
