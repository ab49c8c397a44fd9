"""A bucket of a test server as the destination of an export."""

from __future__ import annotations

from collections.abc import Mapping

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
