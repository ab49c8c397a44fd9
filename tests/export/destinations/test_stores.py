"""Object stores as destinations, beyond what every destination does: uploads, digests, prefixes, credentials."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from procflow_export.destinations.port import Owner
from procflow_export.destinations.stores import store as store_module
from procflow_export.destinations.stores.credentials import secret_texts
from procflow_export.destinations.stores.opening import open_store, open_store_destination, store_options
from procflow_export.destinations.stores.part import BLOCK_BYTES, UPLOAD_BYTES
from procflow_export.destinations.stores.store import StoreDestination
from procflow_export.destinations.stores.uploads import is_abandoned
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType, Verify
from procflow_export.model.errors import DestinationError
from tests.export.destinations.buckets import config_of, destination_in, s3_client, uploads_of
from tests.export.destinations.scripted_store import scripted_store
from tools.pytest_servers import fresh_bucket
from tools.servers.buckets import ObjectStore, StoreKind


@pytest.fixture(params=["s3", "gcs", "azure"])
def bucket(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> ObjectStore:
    kind: StoreKind = request.param
    return fresh_bucket(kind, pytestconfig)


SIZES = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5]


@pytest.mark.parametrize("verify", list(Verify))
@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_part_of_any_size_arrives_whole(bucket: ObjectStore, verify: Verify, size_bytes: int) -> None:
    """E-40: W2: around the limits of a block, in pieces of odd sizes, what is stored is what was written, and its digest."""
    data = os.urandom(4096) * (size_bytes // 4096 + 1)
    data = data[:size_bytes]
    destination = destination_in(bucket, verify=verify)

    with destination.open_part("a.parquet") as part:
        view, step = memoryview(data), 3_000_001
        for start in range(0, size_bytes, step):
            part.write(view[start : start + step])

    assert part.stored.size_bytes == size_bytes
    assert part.stored.checksum == f"sha256:{hashlib.sha256(data).hexdigest()}"
    with destination.open_object("a.parquet") as file:
        assert file.read() == data


@pytest.mark.parametrize("size_bytes", [1, 2 * BLOCK_BYTES])
def test_the_digest_of_s3_is_known_without_reading_back(
    s3_store: ObjectStore, size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-40: W2: with `verify: content` the tag that S3 gives an object is compared; nothing is read again."""
    destination = destination_in(s3_store, verify=Verify.CONTENT)
    monkeypatch.setattr(StoreDestination, "_digest", lambda *_: pytest.fail("it was read back"))

    with destination.open_part("a.parquet") as part:
        part.write(b"x" * size_bytes)

    assert part.stored.size_bytes == size_bytes


@pytest.mark.parametrize(
    ("verify", "replacement", "is_found"),
    [
        (Verify.SIZE, b"other bytes", True),
        (Verify.SIZE, b"HELLO WORLD", True),
        (Verify.SIZE, b"hello_world", False),
        (Verify.CONTENT, b"hello_world", True),
        (Verify.CONTENT, b"hello", True),
    ],
)
def test_a_copy_that_differs_is_not_recorded(
    bucket: ObjectStore, verify: Verify, replacement: bytes, is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-40: W2: a store that keeps something else is found out by size, and by content where that was asked for."""
    if verify is Verify.SIZE and len(replacement) == len(b"hello world"):
        is_found = False
    destination = destination_in(bucket, verify=verify)

    def damage(point: str) -> None:
        if point == "part.stored":
            destination.put("a.parquet", replacement)

    monkeypatch.setattr(store_module, "crash_point", damage)

    if not is_found:
        with destination.open_part("a.parquet") as part:
            part.write(b"hello world")
        return
    with pytest.raises(DestinationError) as caught, destination.open_part("a.parquet") as part:
        part.write(b"hello world")
    assert caught.value.code is Code.DESTINATION_MISMATCH
    assert destination.head("a.parquet") is None


def test_an_upload_that_fails_leaves_no_blocks(s3_store: ObjectStore) -> None:
    """E-40: W1: blocks that were sent are given up with the part; nothing is left that somebody pays for."""
    destination = destination_in(s3_store)

    with pytest.raises(KeyboardInterrupt), destination.open_part("a.parquet") as part:
        part.write(b"x" * (3 * BLOCK_BYTES))
        raise KeyboardInterrupt

    assert "Uploads" not in s3_client(s3_store).list_multipart_uploads(Bucket=s3_store.bucket)
    assert list(destination.list()) == []


def abandoned(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        s3_client(store).create_multipart_upload(Bucket=store.bucket, Key=key)


def test_uploads_of_dead_runs_are_aborted(s3_store: ObjectStore) -> None:
    """E-34: what a killed run has begun is given up by the next one, and nothing beside it: other runs, other folders."""
    dead = ("exports/orders/orders-dead-c00000-p000.csv", "exports/orders/2026/orders-dead-c00001-p000.csv")
    others = ("exports/orders_archive/orders-dead-c00000-p000.csv", "exports/orders/new-live-c00000-p000.csv")
    abandoned(s3_store, *dead, *others)
    owner = Owner(export="orders", run_id="run-2")
    destination = open_store_destination(config_of(s3_store), owner, s3_store.environ)

    assert destination.remove_stale() == ()
    removed = destination.remove_stale(("orders-dead-c", "2026/orders-dead-c"))

    assert sorted(removed) == ["2026/orders-dead-c00001-p000.csv", "orders-dead-c00000-p000.csv"]
    assert sorted(uploads_of(s3_store)) == sorted(others)


def test_whoever_may_not_list_uploads_may_still_export(azure_store: ObjectStore, rclone_store: ObjectStore) -> None:
    """E-40: looking for unfinished uploads needs a further permission: without it, or a server that can, nothing fails."""
    owner = Owner(export="orders", run_id="run-2")
    wrong = {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong"}

    assert open_store_destination(config_of(rclone_store), owner, wrong).remove_stale(("a",)) == ()
    assert open_store_destination(config_of(azure_store), owner, azure_store.environ).remove_stale(("a",)) == ()


@pytest.mark.parametrize(
    ("key", "days", "expected"),
    [
        ("orders-dead-c00000-p000.csv", 0, True),
        ("orders-other-c00000-p000.csv", 0, False),
        ("orders-other-c00000-p000.csv", 6.9, False),
        ("orders-other-c00000-p000.csv", 7.1, True),
        ("2026/orders-other-c00000-p000.csv", 7.1, True),
        ("notes.txt", 100, False),
        ("sub/new-other-c00000-p000.csv", 100, False),
    ],
)
def test_an_upload_of_an_unknown_run_waits_a_week(key: str, days: float, expected: bool) -> None:
    """E-34: a run of another machine may be at work; after a week nobody is, and only the export's own are touched."""
    assert is_abandoned(key, timedelta(days=days), stems=("orders-dead-c",), export="orders") is expected


def test_a_prefix_is_a_directory(bucket: ObjectStore) -> None:
    """E-41: `orders` never sees, replaces or removes what lies in `orders_archive` (lesson 24)."""
    archive = destination_in(bucket, "exports/orders_archive")
    archive.put("manifest.json", b"archive")
    orders = destination_in(bucket, "exports/orders")
    orders.put("manifest.json", b"orders")

    orders.remove("manifest.json")

    assert list(orders.list()) == []
    assert archive.get("manifest.json") == b"archive"
    assert [info.key for info in archive.list()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["ü ä", "a%b", "a%20b", "a#b", "a~b", "a=b;c", "a'b", "a+b", "$a@b", "日本"])
def test_odd_names_are_kept(bucket: ObjectStore, name: str) -> None:
    """E-41: the name of an export may hold what URLs treat specially; the object has that name, and is listed by it."""
    destination = destination_in(bucket, f"exports/{name}")

    with destination.open_part(f"{name}-c00000-p000.csv") as part:
        part.write(b"x")

    assert [info.key for info in destination.list(name)] == [f"{name}-c00000-p000.csv"]
    assert destination.get(f"{name}-c00000-p000.csv") == b"x"


def test_long_listings_are_whole_and_ordered(s3_store: ObjectStore) -> None:
    """E-40: more objects than a page has are listed, each once."""
    destination = destination_in(s3_store)
    names = [f"d{number % 7}/{number:04d}" for number in range(1_100)]
    for name in names:
        destination.put(name, b"")

    assert [info.key for info in destination.list()] == sorted(names)
    assert len(list(destination.list("d3/"))) == sum(name.startswith("d3/") for name in names)


def test_a_part_is_never_whole_in_memory(s3_store: ObjectStore) -> None:
    """E-40: an upload streams: of a part no more is held than the blocks that travel and the one that is filled."""
    destination = destination_in(s3_store)
    block = bytearray(1 << 20)
    tracemalloc.start()
    try:
        with destination.open_part("a.parquet") as part:
            for _ in range(100):
                part.write(block)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert part.stored.size_bytes == 100 << 20
    assert peak_bytes < UPLOAD_BYTES + (2 << 20)


# --- credentials ------------------------------------------------------------------------------------------------------


S3 = DestinationConfig(type=DestinationType.S3, bucket="shop", prefix="orders", endpoint="http://127.0.0.1:1")
KEYS = {"KEY": "AKIANAMED", "SECRET": "named-secret", "TOKEN": "named-token"}
AWS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_SESSION_TOKEN": "env-token"}


def asked_with(config: dict[str, Any], environ: dict[str, str]) -> dict[str, str]:
    """The headers with which an S3 client asks."""
    with scripted_store() as script:
        changed = DestinationConfig(type=DestinationType.S3, bucket="shop", prefix="p", endpoint=script.url, **config)
        store = StoreDestination(open_store(changed, environ), location="s3://shop/p")
        store.put("a", b"")
        return script.asked[0][2]


def test_named_keys_win_and_are_not_mixed_with_the_environment() -> None:
    """E-40: keys that the configuration names go without the session token of other keys."""
    pair = {"access_key_env": "KEY", "secret_key_env": "SECRET"}

    headers = asked_with(pair, KEYS | AWS)
    assert "Credential=AKIANAMED/" in headers["authorization"]
    assert "x-amz-security-token" not in headers

    headers = asked_with(pair | {"session_token_env": "TOKEN"}, KEYS | AWS)
    assert headers["x-amz-security-token"] == "named-token"


def test_the_environment_of_the_caller_counts() -> None:
    """E-40: without keys of its own a destination uses the AWS variables, those of the environment that it was given."""
    headers = asked_with({}, AWS)

    assert "Credential=AKIAENV/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "env-token"


def test_the_region_is_said_or_found() -> None:
    """E-40: `region` wins over AWS_REGION."""
    assert "/eu-west-3/s3/" in asked_with({"region": "eu-west-3"}, AWS | {"AWS_REGION": "eu-west-1"})["authorization"]
    assert "/eu-west-1/s3/" in asked_with({}, AWS | {"AWS_REGION": "eu-west-1"})["authorization"]


def test_a_signature_of_azure_is_sent_as_it_is() -> None:
    """E-40: a shared access signature is a query; characters that were escaped in it are so only once."""
    with scripted_store() as script:
        script.status = 201
        script.headers = {"ETag": '"1"', "Last-Modified": "Mon, 30 Nov 2026 00:00:00 GMT"}
        config = DestinationConfig(
            type=DestinationType.AZURE,
            bucket="shop",
            prefix="p",
            endpoint=f"{script.url}/account",
            account_name="account",
            sas_token_env="SAS",
        )
        store = open_store(config, {"SAS": "?sv=2024-01-01&sig=a%2Bb%3D%3D"})
        StoreDestination(store, location="az://shop/p").put("a", b"")

    assert "sig=a%2Bb%3D%3D" in script.asked[0][1]


def test_wrong_keys_are_denied(azure_store: ObjectStore, rclone_store: ObjectStore) -> None:
    """E-40: a server that checks signatures refuses wrong ones, and the run says whose fault that is."""
    azure = {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1", "AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmc="}
    s3 = {"AWS_ACCESS_KEY_ID": rclone_store.credentials["access_key_id"], "AWS_SECRET_ACCESS_KEY": "wrong"}

    for store, environ in ((azure_store, azure), (rclone_store, s3)):
        with pytest.raises(DestinationError) as caught:
            destination_in(store, environ=environ).put("a", b"")
        assert caught.value.code is Code.DESTINATION_DENIED


@pytest.mark.parametrize("kind", ["service_account", "authorized_user"])
def test_a_credentials_file_is_read_by_its_kind(tmp_path: Path, kind: str) -> None:
    """E-40: `credentials_file` is a service account or application default credentials, whatever the environment holds."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": kind}))
    config = DestinationConfig(type=DestinationType.GCS, bucket="shop", credentials_file=str(file))

    settings = store_options(config, {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"})["config"]

    name = "google_service_account" if kind == "service_account" else "google_application_credentials"
    assert settings == {name: str(file)}


def test_s3_itself_verifies_what_it_receives() -> None:
    """E-40: requests to Amazon carry a SHA-256 of their body; relatives of S3 get it only when the environment asks for it."""
    amazon = DestinationConfig(type=DestinationType.S3, bucket="shop")

    assert store_options(amazon, {})["config"]["aws_checksum_algorithm"] == "SHA256"
    assert "aws_checksum_algorithm" not in store_options(S3, {})["config"]
    asked = store_options(S3, {"AWS_CHECKSUM_ALGORITHM": "SHA256"})
    assert asked["config"]["aws_checksum_algorithm"] == "SHA256"


@pytest.mark.parametrize(
    ("endpoint", "allow_http", "is_allowed"),
    [
        ("http://127.0.0.1:9000", False, True),
        ("http://minio:9000", False, False),
        ("http://minio:9000", True, True),
        ("https://minio:9000", True, False),
    ],
)
def test_plain_http_is_allowed_where_it_was_decided(endpoint: str, allow_http: bool, is_allowed: bool) -> None:
    """E-40: the client refuses plain http unless the endpoint is of this machine, or the configuration says so."""
    config = DestinationConfig(type=DestinationType.S3, bucket="shop", endpoint=endpoint, allow_http=allow_http)

    assert store_options(config, {})["client_options"].get("allow_http", False) is is_allowed


def test_an_endpoint_of_the_environment_counts() -> None:
    """E-40: AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL lead to another server, as they do for other programs."""
    config = DestinationConfig(type=DestinationType.S3, bucket="shop")
    for environ in ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}):
        options = store_options(config, environ)
        assert options["config"]["aws_endpoint_url"] == "http://127.0.0.1:9"
        assert options["client_options"]["allow_http"] is True


@pytest.fixture
def aws_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        "[shop]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = profile-secret\n"
    )
    (tmp_path / "config").write_text("[profile shop]\nregion = eu-west-2\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.usefixtures("aws_files")
def test_a_profile_is_resolved_by_boto3() -> None:
    """E-40: `aws_profile` gives the keys and the region of the profile, and not those of the environment."""
    authorization = asked_with({"aws_profile": "shop"}, AWS)["authorization"]

    assert "Credential=AKIAPROFILE/" in authorization
    assert "/eu-west-2/s3/" in authorization


@pytest.mark.usefixtures("aws_files")
def test_the_profile_of_the_environment_counts_without_keys() -> None:
    """E-40: AWS_PROFILE is understood as by AWS's own tools, which prefer keys that stand beside it."""
    assert "Credential=AKIAPROFILE/" in asked_with({}, {"AWS_PROFILE": "shop"})["authorization"]
    assert "Credential=AKIAENV/" in asked_with({}, AWS | {"AWS_PROFILE": "shop"})["authorization"]


@pytest.mark.usefixtures("aws_files")
def test_a_profile_that_is_not_there_is_told() -> None:
    """E-40: the name of the profile stands in the error."""
    with pytest.raises(DestinationError, match="'other'") as caught:
        asked_with({"aws_profile": "other"}, {})
    assert caught.value.code is Code.DESTINATION_NOT_USABLE


def test_what_gives_access_is_secret(azure_store: ObjectStore) -> None:
    """E-2: the values of named variables and of the clouds' own ones are known to whoever masks texts."""
    named = DestinationConfig(type=DestinationType.S3, bucket="b", access_key_env="KEY", secret_key_env="SECRET")
    revealed = secret_texts(named, KEYS | AWS)
    assert {"named-secret", "env-secret", "env-token"} <= revealed
    assert "named-token" not in revealed

    azure = config_of(azure_store)
    revealed = secret_texts(azure, azure_store.environ)
    assert azure_store.environ["AZURE_STORAGE_ACCOUNT_KEY"] in revealed
    signed = DestinationConfig(type=DestinationType.AZURE, bucket="b", sas_token_env="SAS")
    revealed = secret_texts(signed, {"SAS": "?sv=1&sig=a%2Bb%3D"})
    assert {"?sv=1&sig=a%2Bb%3D", "a+b="} <= revealed
    local = DestinationConfig(type=DestinationType.LOCAL, path="/out")
    assert secret_texts(local, KEYS | AWS) == frozenset()
