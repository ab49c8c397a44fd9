"""A bucket of a test server as the destination of an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3

from procflow_export.destinations.stores.opening import open_store
from procflow_export.destinations.stores.store import StoreDestination
from procflow_export.model.destination import DestinationConfig, DestinationType, Verify
from tools.servers.buckets import ObjectStore

TYPES = {
    "s3": DestinationType.S3,
    "rclone": DestinationType.S3,
    "gcs": DestinationType.GCS,
    "azure": DestinationType.AZURE,
}


def config_of(store: ObjectStore, prefix: str = "exports/orders", *, verify: Verify = Verify.SIZE) -> DestinationConfig:
    return DestinationConfig(
        type=TYPES[store.kind], bucket=store.bucket, prefix=prefix, endpoint=store.endpoint, verify=verify
    )


def destination_in(
    store: ObjectStore,
    prefix: str = "exports/orders",
    *,
    verify: Verify = Verify.SIZE,
    environ: Mapping[str, str] | None = None,
) -> StoreDestination:
    config = config_of(store, prefix, verify=verify)
    opened = open_store(config, store.environ if environ is None else environ)
    return StoreDestination(opened, location=config.location, verify=verify)


def s3_client(store: ObjectStore) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


def uploads_of(store: ObjectStore) -> list[str]:
    """The keys of uploads that were neither completed nor aborted."""
    return [upload["Key"] for upload in s3_client(store).list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])]
