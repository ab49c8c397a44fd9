"""Whole exports to real stores, by every engine, and what faults of the store do to them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import anyio
import pytest

from procflow_export import ExitStatus, Exporter
from tests.export.destinations.live.shops import ROWS, TIMEOUT_S, Shop
from tools.pytest_servers import fresh_bucket
from tools.servers import ObjectStore, StoreKind
from tools.servers.faults import Answer, Break, Fault, fault_proxy

pytestmark = pytest.mark.stores

KINDS: Final[tuple[StoreKind, ...]] = ("s3", "gcs", "azure", "rclone")


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> ObjectStore:
    return fresh_bucket(request.param, pytestconfig)


@pytest.fixture
def shop(store: ObjectStore, tmp_path: Path) -> Shop:
    return Shop(tmp_path, store)


@pytest.fixture
def s3_shop(s3_store: ObjectStore, tmp_path: Path) -> Shop:
    return Shop(tmp_path, s3_store)


def assert_published(shop: Shop) -> None:
    for table in ROWS:
        assert shop.published(table) == sorted(shop.expected(table), key=str)
        assert shop.unnamed(table) == []


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_the_program_exports_to_every_store(shop: Shop, engine: str) -> None:
    """E-40: what readers of the manifest find is the source, whoever did the work and wherever it went; again and again."""
    config = shop.config()
    for _ in range(2):
        ended = shop.run(config, "--engine", engine, "--processes", "2")

        assert ended.status == 0, ended.err
        assert {name: verdict["row_count"] for name, verdict in ended.verdicts.items()} == ROWS
        assert_published(shop)


def test_a_program_of_ones_own_exports_to_every_store(shop: Shop) -> None:
    """E-40: the same from Python, with credentials from an environment that is given and not this process's."""

    async def export() -> ExitStatus:
        async with Exporter(shop.config(), environ=shop.environ()) as exporter:
            async for _ in exporter.run():
                pass
        assert exporter.result is not None
        return exporter.result.exit_status

    assert anyio.run(export) == ExitStatus.OK
    assert_published(shop)


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_a_part_that_fails_is_made_again(s3_shop: Shop, s3_store: ObjectStore, engine: str) -> None:
    """E-31: a store that refuses a part for longer than the client tries costs a retry of the chunk, and nothing else."""
    with fault_proxy(s3_store.endpoint) as proxy:
        # A refusal that the client itself does not repeat, but that may pass: an upload that the store has lost.
        fault = Fault(what=Answer(status=404, code="NoSuchUpload"), method="PUT", target=r"orders.*-c00001-")
        proxy.inject(fault)
        config = s3_shop.config(proxy.url, max_retries=2, retry_backoff_ms=1)
        ended = s3_shop.run(config, "--engine", engine, "--processes", "2")

    assert ended.status == 0, ended.err
    assert fault.hits == 1
    assert ended.verdicts["orders"]["retry_count"] == 1
    assert ended.verdicts["customers"]["retry_count"] == 0
    assert_published(s3_shop)


@pytest.mark.parametrize("engine", ["in-process", "processes"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(status=403, code="AccessDenied"), "DESTINATION_DENIED"),
        (Answer(status=400, code="ExpiredToken"), "DESTINATION_DENIED"),
        (Answer(status=403, code="QuotaExceeded"), "DESTINATION_FULL"),
        (Answer(status=404, code="NoSuchBucket"), "DESTINATION_NOT_USABLE"),
    ],
)
def test_a_refusal_in_the_middle_ends_the_export_and_leaves_the_old_set(
    s3_shop: Shop, s3_store: ObjectStore, engine: str, answer: Answer, code: str
) -> None:
    """E-42: credentials that expire during uploads and a full store are told by their code; the published set stays.

    Parts that were stored before are removed by the next run.
    """
    with fault_proxy(s3_store.endpoint) as proxy:
        config = s3_shop.config(proxy.url)
        assert s3_shop.run(config).status == 0
        proxy.inject(Fault(what=answer, method="PUT", target=r"orders.*-c0000[12]-", times=None))
        ended = s3_shop.run(config, "--engine", engine, "--processes", "2")

        assert ended.verdicts["orders"]["failure"]["code"] == code
        assert ended.status == ExitStatus.FIX
        assert ended.verdicts["customers"]["status"] == "success"
        for table in ROWS:
            assert s3_shop.published(table) == sorted(s3_shop.expected(table), key=str)

        proxy.clear()
        assert s3_shop.run(config, "--engine", engine).status == 0
    assert_published(s3_shop)


@pytest.mark.parametrize("what", [Break.LOSE_ANSWER, Break.CUT_ANSWER])
def test_a_commit_whose_answer_is_lost_is_a_commit(shop: Shop, store: ObjectStore, what: Break) -> None:
    """E-42: W4: the manifest that is found is this run's own: the run has published, and says so."""
    with fault_proxy(store.endpoint) as proxy:
        fault = Fault(what=what, method="PUT", target=r"/orders/manifest\.json")
        proxy.inject(fault)
        ended = shop.run(shop.config(proxy.url))

    assert ended.status == 0, ended.err
    assert fault.hits == 1
    assert_published(shop)


def test_a_run_that_is_stopped_does_not_wait_for_a_silent_store(s3_shop: Shop, s3_store: ObjectStore) -> None:
    """E-34: SIGTERM while an upload is never answered ends the workers; what is there is what was, and the next run publishes."""
    with fault_proxy(s3_store.endpoint) as proxy:
        config = s3_shop.config(proxy.url)
        assert s3_shop.run(config).status == 0
        proxy.inject(Fault(what=Break.STALL, method="PUT", target=r"orders.*-c00000-", times=None))

        def stop(process: subprocess.Popen[str]) -> None:
            assert proxy.stalled.wait(TIMEOUT_S)
            process.terminate()

        ended = s3_shop.run(config, "--engine", "processes", when=stop)

        assert ended.status == ExitStatus.TERMINATED
        assert ended.verdicts["orders"]["status"] == "cancelled"
        assert s3_shop.published("orders") == sorted(s3_shop.expected("orders"), key=str)
        proxy.clear()
        assert s3_shop.run(config).status == 0
    assert_published(s3_shop)
