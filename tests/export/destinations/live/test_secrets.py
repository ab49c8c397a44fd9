"""Keys, tokens and signed URLs of a store: searched for in everything that an export writes, says or shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.export.destinations.buckets import TYPES
from tests.export.secrets.canaries import PASSWORD_CORE, TOKEN_CORE
from tests.export.secrets.test_canary import Bench, sqlite_bench
from tools.pytest_servers import fresh_bucket
from tools.servers import ObjectStore, StoreKind
from tools.servers.faults import Answer, Break, Fault, fault_proxy

pytestmark = pytest.mark.stores

QUERY: Final = "SELECT id, v FROM shop"
BY_NAME: Final[Mapping[str, object]] = {
    "access_key_env": "SHOP_KEY",
    "secret_key_env": "SHOP_SECRET",
    "session_token_env": "SHOP_TOKEN",
}
SAS: Final = f"sv=2024-11-04&ss=b&srt=sco&sp=rwdlac&se=2026-01-01T00%3A00%3A00Z&sig={TOKEN_CORE}%2Babc%3D"
FAULTS: Final[Mapping[str, Answer | Break]] = {
    "denied": Answer(status=403, code="AccessDenied", message=f"token {TOKEN_CORE} of key {PASSWORD_CORE}"),
    "signed url": Answer(
        status=500, message=f"https://store/x?X-Amz-Security-Token={TOKEN_CORE}&amp;sig={PASSWORD_CORE}"
    ),
    "expired": Answer(status=400, code="ExpiredToken", message=f"expired: {quote(TOKEN_CORE)}"),
    "cut": Break.CUT_REQUEST,
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "conf").mkdir()
    found = sqlite_bench(tmp_path)
    found.source["tuning"] = {"max_retries": 0}
    return found


def destination(store: ObjectStore, **more: object) -> dict[str, object]:
    return {
        "type": TYPES[store.kind].value,
        "bucket": store.bucket,
        "prefix": "{export}",
        "endpoint": store.endpoint,
        **more,
    }


def run(bench: Bench, place: dict[str, object], *options: str) -> Any:
    file = bench.write(bench.source, QUERY, destination=place)
    seen = bench.root / "seen"
    words = ("--json", "-v", "--record", seen / "records", "--state", seen / "state", *options)
    ended = bench.program("run", file, *words)
    bench.assert_kept(ended)
    return ended


@pytest.mark.parametrize("engine", ["in-process", "processes"])
@pytest.mark.parametrize("way", ["by name", "by convention"])
def test_an_export_keeps_the_keys_of_s3(bench: Bench, s3_store: ObjectStore, way: str, engine: str) -> None:
    """E-2: neither outputs nor events, record, state, screen and arguments hold secret key or session token."""
    keys = {"SHOP_KEY": "AKIACANARY", "SHOP_SECRET": PASSWORD_CORE, "SHOP_TOKEN": TOKEN_CORE}
    if way == "by name":
        bench.environ |= keys
    else:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        bench.environ |= dict(zip(names, keys.values(), strict=True))
    more = BY_NAME if way == "by name" else {}

    ended = run(bench, destination(s3_store, region="us-east-1", **more), "--engine", engine)

    assert ended.status == 0, ended.err.decode()
    assert ended.data["exports"][0]["row_count"] == 200
    assert engine == "in-process" or ended.watched.workers


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_failure_keeps_them_too(bench: Bench, s3_store: ObjectStore, name: str, method: str) -> None:
    """E-2: nor does what is told of a store that refuses, and repeats what it was asked with."""
    bench.environ |= {"SHOP_KEY": "AKIACANARY", "SHOP_SECRET": PASSWORD_CORE, "SHOP_TOKEN": TOKEN_CORE}
    with fault_proxy(s3_store.endpoint) as proxy:
        # The client tries ten times: what it is told is the same the first time.
        times = 1 if name in ("denied", "expired") else None
        proxy.inject(Fault(what=FAULTS[name], method=method, target=r"/shop/", times=times))
        ended = run(bench, destination(s3_store.through(proxy.url), region="us-east-1", **BY_NAME))

    assert ended.status != 0
    assert ended.data["exports"][0]["failure"]["code"].startswith("DESTINATION_")


@pytest.mark.parametrize("kind", ["rclone", "azure"])
def test_a_wrong_key_is_not_repeated(bench: Bench, pytestconfig: pytest.Config, kind: StoreKind) -> None:
    """E-2, E-40: servers that check keys refuse a wrong one; the failure says so, without it."""
    store = fresh_bucket(kind, pytestconfig)
    if kind == "azure":
        bench.environ["SHOP_SAS"] = SAS
        place = destination(store, account_name="devstoreaccount1", sas_token_env="SHOP_SAS")
    else:
        bench.environ |= {"SHOP_KEY": store.credentials["access_key_id"], "SHOP_SECRET": PASSWORD_CORE}
        place = destination(store, region="us-east-1", access_key_env="SHOP_KEY", secret_key_env="SHOP_SECRET")

    ended = run(bench, place)

    assert ended.status == 1
    assert ended.data["exports"][0]["failure"]["code"] == "DESTINATION_DENIED"
