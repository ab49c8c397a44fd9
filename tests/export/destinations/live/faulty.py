"""A destination in a real store behind a proxy that injects faults, and what each request of a publication looks like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from obstore.store import AzureStore, GCSStore, S3Store

from procflow_export.destinations.stores.opening import store_options
from procflow_export.destinations.stores.part import BLOCK_BYTES
from procflow_export.destinations.stores.store import StoreDestination
from procflow_export.model.destination import DestinationType
from tests.export.destinations.buckets import config_of
from tools.servers import ObjectStore, StoreKind
from tools.servers.faults import Answer, Break, Fault, FaultProxy, fault_proxy

PATIENCE_S: Final = 60.0
MAX_RETRIES: Final = 2
PART_BYTES: Final = {True: BLOCK_BYTES + 1_000, False: 1_000}
"""A part of two blocks, and one that is put in one piece."""

_BLOCKS: Final[Mapping[StoreKind, str]] = {
    "s3": r"partNumber=",
    "gcs": r"partNumber=",
    "azure": r"comp=block(&|$)",
}
_COMPLETION: Final[Mapping[StoreKind, tuple[str, str]]] = {
    "s3": ("POST", r"uploadId="),
    "gcs": ("POST", r"uploadId="),
    "azure": ("PUT", r"comp=blocklist"),
}


def fault_at(kind: StoreKind, step: str, what: Answer | Break, *, times: int | None = 1) -> Fault:
    """Return a fault of the request that does ``step``."""
    method, target = {
        "block": ("PUT", _BLOCKS[kind]),
        "completion": _COMPLETION[kind],
        "part": ("PUT", r"-c00000-p000\.csv(\?|$)"),
        "head": ("HEAD", ""),
        "run manifest": ("PUT", r"manifest-.*json"),
        "manifest": ("PUT", r"/manifest\.json"),
        "marker": ("PUT", r"_SUCCESS"),
        "reading": ("GET", r"/manifest\.json"),
        "list": ("GET", r"(list-type=2|comp=list)"),
    }[step]
    return Fault(what=what, method=method, target=target, times=times)


def impatient(store: ObjectStore, *, answer_s: float, retries: int) -> StoreDestination:
    """Open a destination as an export does, except that tries are few, and follow each other soon."""
    config = config_of(store)
    options: dict[str, Any] = store_options(config, store.environ)
    options["retry_config"] = {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=60),
        "backoff": {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2), "base": 2},
    }
    options["client_options"]["read_timeout"] = timedelta(seconds=answer_s)
    opened = {DestinationType.S3: S3Store, DestinationType.GCS: GCSStore, DestinationType.AZURE: AzureStore}
    return StoreDestination(opened[config.type](config.bucket, **options), location=config.location)


@contextmanager
def behind_proxy(
    store: ObjectStore, *, answer_s: float = PATIENCE_S, retries: int = MAX_RETRIES
) -> Iterator[tuple[StoreDestination, FaultProxy]]:
    """Give the destination behind a proxy that lets everything pass at first."""
    with fault_proxy(store.endpoint) as proxy:
        yield impatient(store.through(proxy.url), answer_s=answer_s, retries=retries), proxy
