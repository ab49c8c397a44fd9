"""The rules of a destination, one by one: every cloud, every key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from procflow_export.config.loading import load_config, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.destination import Verify
from procflow_export.model.errors import ConfigError, Finding

ENVIRON = {"KEY": "AKIA", "SECRET": "s3cr3t", "TOKEN": "t", "EMPTY": ""}
EXPORT = {"name": "orders", "table": "orders", "mode": "full", "format": "parquet"}
S3 = {"type": "s3", "bucket": "shop-exports"}
PAIR = {"access_key_env": "KEY", "secret_key_env": "SECRET"}
GCS = {"type": "gcs", "bucket": "shop-exports"}
AZURE = {"type": "azure", "bucket": "exports", "account_name": "shop"}


def config_of(destination: dict[str, Any], **export: Any) -> dict[str, Any]:
    exports = [{**EXPORT, **export}]
    return {"source": {"type": "sqlite", "path": "shop.db"}, "destination": destination, "exports": exports}


def loaded(destination: dict[str, Any], tmp_path: Path, **export: Any) -> LoadedConfig:
    return read_config(config_of(destination, **export), base_dir=tmp_path, environ=ENVIRON)


def findings_of(destination: dict[str, Any], tmp_path: Path, **export: Any) -> list[Finding]:
    try:
        loaded(destination, tmp_path, **export)
    except ConfigError as exc:
        return list(exc.findings)
    return []


@pytest.mark.parametrize(
    ("destination", "location"),
    [
        ({"type": "local", "path": "/out"}, "/out"),
        (S3, "s3://shop-exports"),
        (S3 | {"prefix": "a/b/", "region": "eu-west-1"} | PAIR, "s3://shop-exports/a/b"),
        (S3 | PAIR | {"session_token_env": "TOKEN"}, "s3://shop-exports"),
        (S3 | {"aws_profile": "shop"}, "s3://shop-exports"),
        (S3 | {"endpoint": "https://minio.example:9000"}, "s3://shop-exports"),
        (S3 | {"endpoint": "http://127.0.0.1:9000"}, "s3://shop-exports"),
        (S3 | {"endpoint": "http://[::1]:9000"}, "s3://shop-exports"),
        (S3 | {"endpoint": "http://minio:9000", "allow_http": True}, "s3://shop-exports"),
        (S3 | {"prefix": "{table}/{date}/{hour}/{run_id}/{export}"}, None),
        (S3 | {"verify": "content"}, "s3://shop-exports"),
        (GCS | {"prefix": "a"}, "gs://shop-exports/a"),
        (GCS | {"allow_anonymous": True, "endpoint": "http://localhost:1"}, "gs://shop-exports"),
        (GCS | {"credentials_file": "key.json"}, "gs://shop-exports"),
        (AZURE | {"account_key_env": "SECRET"}, "az://exports"),
        (AZURE | {"sas_token_env": "TOKEN"}, "az://exports"),
        (AZURE | {"allow_anonymous": True}, "az://exports"),
        ({"type": "local", "path": "/out", "verify": "size", "allow_http": False, "bucket": None}, "/out"),
    ],
)
def test_good_destinations_have_no_findings(destination: dict[str, Any], location: str | None, tmp_path: Path) -> None:
    """E-40: every key of every cloud is taken where it belongs, and the place has one text."""
    (tmp_path / "key.json").write_text("{}")

    config = loaded(destination, tmp_path).config

    assert config.destination is not None
    assert location in (None, config.destination.location)


BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "no bucket": ({"type": "s3"}, "bucket", "is missing"),
    "scheme in the bucket": (S3 | {"bucket": "s3://shop"}, "bucket", "without scheme"),
    "path in the bucket": (S3 | {"bucket": "shop/orders"}, "bucket", "without scheme"),
    "odd bucket": (S3 | {"bucket": "shop exports"}, "bucket", "cannot be the name"),
    "placeholder in the bucket": (S3 | {"bucket": "shop-{date}"}, "bucket", "cannot be the name"),
    "slash before the prefix": (S3 | {"prefix": "/a"}, "prefix", "empty segment"),
    "empty prefix": (S3 | {"prefix": ""}, "prefix", "empty segment"),
    "prefix of a slash": (S3 | {"prefix": "/"}, "prefix", "empty segment"),
    "two slashes in the prefix": (S3 | {"prefix": "a//b"}, "prefix", "empty segment"),
    "prefix upwards": (S3 | {"prefix": "a/../b"}, "prefix", "cannot be part"),
    "hidden prefix": (S3 | {"prefix": ".a"}, "prefix", "cannot be part"),
    "control character in the prefix": (S3 | {"prefix": "a\nb"}, "prefix", "cannot be part"),
    "unknown placeholder": (S3 | {"prefix": "{dat}"}, "prefix", "not a placeholder"),
    "later placeholder": (S3 | {"prefix": "{partition}"}, "prefix", "not supported yet"),
    "http to another machine": (S3 | {"endpoint": "http://minio:9000"}, "endpoint", "in clear"),
    "endpoint without scheme": (S3 | {"endpoint": "minio:9000"}, "endpoint", "not a URL"),
    "endpoint of another scheme": (S3 | {"endpoint": "ftp://minio"}, "endpoint", "not a URL"),
    "endpoint with a wrong port": (S3 | {"endpoint": "https://minio:x"}, "endpoint", "not a URL"),
    "endpoint with a password": (S3 | {"endpoint": "https://u:s3cr3t@minio"}, "endpoint", "holds a user"),
    "endpoint with a query": (S3 | {"endpoint": "https://minio?sig=s3cr3t"}, "endpoint", "holds a query"),
    "key without secret": (S3 | {"access_key_env": "KEY"}, "secret_key_env", "belong together"),
    "secret without key": (S3 | {"secret_key_env": "SECRET"}, "access_key_env", "belong together"),
    "token without keys": (S3 | {"session_token_env": "TOKEN"}, "session_token_env", "belongs to keys"),
    "profile and keys": (S3 | PAIR | {"aws_profile": "shop"}, "aws_profile", "exclude each other"),
    "variable that is not set": (S3 | PAIR | {"secret_key_env": "NOT_SET"}, "secret_key_env", "is not set"),
    "variable that is empty": (S3 | PAIR | {"access_key_env": "EMPTY"}, "access_key_env", "is not set"),
    "path of another type": (S3 | {"path": "out"}, "path", "means nothing to s3"),
    "account of another type": (S3 | {"account_name": "a"}, "account_name", "means nothing to s3"),
    "anonymous s3": (S3 | {"allow_anonymous": True}, "allow_anonymous", "means nothing to s3"),
    "region of another type": (GCS | {"region": "eu"}, "region", "means nothing to gcs"),
    "profile of another type": (AZURE | {"aws_profile": "x"}, "aws_profile", "means nothing to azure"),
    "file of another type": (AZURE | {"credentials_file": "x"}, "credentials_file", "means nothing to azure"),
    "bucket of another type": ({"type": "local", "path": "o", "bucket": "b"}, "bucket", "means nothing to local"),
    "verify of another type": ({"type": "local", "path": "o", "verify": "content"}, "verify", "means nothing to local"),
    "path to stdout": ({"type": "stdout", "path": "o"}, "path", "means nothing to stdout"),
    "file and anonymous": (
        GCS | {"credentials_file": "key.json", "allow_anonymous": True},
        "allow_anonymous",
        "exclude each other",
    ),
    "missing file": (GCS | {"credentials_file": "no.json"}, "credentials_file", "does not exist"),
    "no account": ({"type": "azure", "bucket": "exports"}, "account_name", "is missing"),
    "key and signature": (
        AZURE | {"account_key_env": "SECRET", "sas_token_env": "TOKEN"},
        "sas_token_env",
        "exclude each other",
    ),
    "key and anonymous": (
        AZURE | {"account_key_env": "SECRET", "allow_anonymous": True},
        "allow_anonymous",
        "exclude each other",
    ),
    "unknown key": (S3 | {"buckt": "b"}, "buckt", "not a key here"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_rule_finds_its_mistake(name: str, tmp_path: Path) -> None:
    """E-62: every rule about a destination finds its mistake, at its key and at nothing else, and shows no secret."""
    (tmp_path / "key.json").write_text("{}")
    destination, key, words = BROKEN[name]

    found = findings_of(destination, tmp_path)

    assert [finding.key for finding in found] == [f"destination.{key}"]
    assert words in found[0].message
    assert "s3cr3t" not in str(found[0])


def test_findings_of_a_destination_have_their_line(tmp_path: Path) -> None:
    """E-62: the finding stands at the line of the key, for the destination of all and for that of one."""
    file = tmp_path / "shop.yaml"
    file.write_text(
        "source: {type: sqlite, path: shop.db}\n"
        "destination:\n"
        "  type: s3\n"
        "  bucket: s3://shop\n"
        "exports:\n"
        "  - name: orders\n"
        "    table: orders\n"
        "    mode: full\n"
        "    format: csv\n"
        "    destination:\n"
        "      type: gcs\n"
        "      bucket: shop\n"
        "      endpoint: http://elsewhere\n"
    )

    with pytest.raises(ConfigError) as caught:
        load_config(file, params={}, environ={})

    places = {(finding.key, finding.line) for finding in caught.value.findings}
    assert places == {("destination.bucket", 4), ("exports[0].destination.endpoint", 13)}


def test_the_account_may_stand_in_the_environment(tmp_path: Path) -> None:
    """E-40: the clouds' own conventions count where the configuration is silent."""
    values = config_of({"type": "azure", "bucket": "exports"})

    assert read_config(values, base_dir=tmp_path, environ={"AZURE_STORAGE_ACCOUNT_NAME": "shop"}).warnings == ()


@pytest.mark.parametrize(
    ("other", "is_refused"),
    [
        (S3 | {"prefix": "x/orders/{export}"}, True),
        (S3 | {"prefix": "x/{export}"}, False),
        (S3 | {"prefix": "x/orders/{export}", "bucket": "other"}, False),
        (S3 | {"prefix": "x/orders/{export}", "endpoint": "https://other"}, False),
        (GCS | {"prefix": "x/orders/{export}"}, False),
    ],
)
def test_two_exports_need_two_prefixes(other: dict[str, Any], is_refused: bool, tmp_path: Path) -> None:
    """E-42: exports that would share a manifest are refused, in buckets too; another bucket or store is another place."""
    values = config_of({"type": "local", "path": "out"})
    values["exports"] = [
        {**EXPORT, "destination": S3 | {"prefix": "x/{export}/open"}},
        {**EXPORT, "name": "open", "destination": other},
    ]

    found: list[Finding] = []
    try:
        read_config(values, base_dir=tmp_path, environ=ENVIRON)
    except ConfigError as exc:
        found += exc.findings

    assert [finding.key for finding in found] == (["exports[1].destination"] if is_refused else [])


def test_a_set_that_grows_needs_a_stable_prefix(tmp_path: Path) -> None:
    """E-41: the manifest of an incremental export stays in one place, also where prefixes have dates."""
    growing = {"mode": "incremental", "cursor_column": "id"}

    assert findings_of(S3 | {"prefix": "{export}/{date}"}, tmp_path, **growing) == []
    (found,) = findings_of(S3 | {"prefix": "{date}/{export}"}, tmp_path, **growing)
    assert found.key == "exports[0].destination"
    assert "stays in one place" in found.message


def test_verify_may_be_said_of_one_export(tmp_path: Path) -> None:
    """E-40: `verify` stands where existing configurations have it, at the export, and wins over the destination's."""
    config = loaded(S3, tmp_path, verify="content").config
    assert config.destination_of(config.exports[0]).verify is Verify.CONTENT

    on_local = loaded({"type": "local", "path": "out"}, tmp_path, verify="content")
    assert len(on_local.warnings) == 1
    assert "no effect" in on_local.warnings[0]
