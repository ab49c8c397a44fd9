"""Every fault of a store at every step of a publication, against real servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from procflow_export.destinations import Depth, Destination, publish, read_published, take_inventory
from procflow_export.destinations.stores.opening import store_options
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError
from procflow_export.model.plan import PartRecord
from tests.export.destinations.buckets import config_of, destination_in
from tests.export.destinations.live.faulty import MAX_RETRIES, PART_BYTES, behind_proxy, fault_at
from tests.export.destinations.publishing import EXPORT, manifest_of, run_export
from tools.pytest_servers import fresh_bucket
from tools.servers import StoreKind
from tools.servers.faults import Answer, Break

pytestmark = pytest.mark.stores

FAULTS: Final[Mapping[str, tuple[Answer | Break, Code]]] = {
    "500": (Answer(status=500), Code.DESTINATION_UNAVAILABLE),
    "503": (Answer(status=503, code="SlowDown"), Code.DESTINATION_UNAVAILABLE),
    "429": (Answer(status=429, code="TooManyRequests"), Code.DESTINATION_UNAVAILABLE),
    "507": (Answer(status=507, code="InsufficientStorage"), Code.DESTINATION_FULL),
    "denied": (Answer(status=403, code="AccessDenied"), Code.DESTINATION_DENIED),
    "expired": (Answer(status=403, code="ExpiredToken"), Code.DESTINATION_DENIED),
    "silence": (Break.STALL, Code.DESTINATION_UNAVAILABLE),
    "cut request": (Break.CUT_REQUEST, Code.DESTINATION_UNAVAILABLE),
    "cut answer": (Break.CUT_ANSWER, Code.DESTINATION_UNAVAILABLE),
    "lost answer": (Break.LOSE_ANSWER, Code.DESTINATION_UNAVAILABLE),
}
TRANSIENT: Final = [name for name, (_, code) in FAULTS.items() if code is Code.DESTINATION_UNAVAILABLE]
DONE_ALL_THE_SAME: Final = ("cut answer", "lost answer")
"""The store has done what was asked, and nobody hears of it."""
BLOCK_STEPS: Final = ("block", "completion")
STEPS: Final = (*BLOCK_STEPS, "part", "head", "run manifest", "manifest", "marker", "reading")
NEEDS_RETRY: Final = {
    *((step, "silence") for step in ("block", "completion", "part", "head", "reading")),
    ("completion", "cut answer"),
    ("completion", "lost answer"),
}
SILENCE_S: Final = 2.0
"""How long the silent store is waited for; every other request of the test is answered in it."""


def cases(names: Iterable[str]) -> list[tuple[StoreKind, str, str]]:
    """Every fault at every step of S3; of the other stores, whose client is the same, one fault of each class."""
    everything: list[tuple[StoreKind, str, str]] = [("s3", name, step) for name in names for step in STEPS]
    others: tuple[StoreKind, ...] = ("gcs", "azure")
    steps = {"500": STEPS, "expired": STEPS, "lost answer": STEPS, "silence": ("block", "manifest")}
    return everything + [(kind, name, step) for kind in others for name in names for step in steps.get(name, ())]


def waiting_for(name: str) -> dict[str, Any]:
    """How long a client waits, and how often it tries: once for a store that is silent, as waiting is all that it does."""
    return {"answer_s": SILENCE_S, "retries": 0} if name == "silence" else {}


def publish_part(destination: Destination, run_id: str, *, in_blocks: bool) -> None:
    with destination.open_part(f"{EXPORT}-{run_id}-c00000-p000.csv") as part:
        part.write(run_id.encode().ljust(PART_BYTES[in_blocks], b"."))
    stored = part.stored
    record = PartRecord(key=stored.key, row_count=1, size_bytes=stored.size_bytes, checksum=stored.checksum, chunk=0)
    publish(destination, manifest_of(run_id, (record,)))


@pytest.mark.parametrize(("kind", "name", "step"), cases(FAULTS))
def test_a_fault_that_stays_ends_the_run_with_its_code_and_tears_nothing(
    pytestconfig: pytest.Config, kind: StoreKind, name: str, step: str
) -> None:
    """E-42: W1, W4: whatever goes wrong at whichever step, readers see the old set or the new, whole; the next run succeeds."""
    what, code = FAULTS[name]
    in_blocks = step in BLOCK_STEPS
    store = fresh_bucket(kind, pytestconfig)
    reader = destination_in(store)
    run_export(reader, "run-1")

    with behind_proxy(store, **waiting_for(name)) as (destination, proxy):
        fault = fault_at(kind, step, what, times=None)
        proxy.inject(fault)
        # That a store did it although nobody heard of it is found out where it counts: by reading the manifest.
        is_harmless = step == "manifest" and name in DONE_ALL_THE_SAME
        if is_harmless:
            publish_part(destination, "run-2", in_blocks=in_blocks)
        else:
            with pytest.raises(DestinationError) as caught:
                publish_part(destination, "run-2", in_blocks=in_blocks)
            assert caught.value.code is code
        assert 1 <= fault.hits <= 2 * (MAX_RETRIES + 1)  # two blocks travel at once, and small objects are sent twice

        seen = read_published(reader, depth=Depth.CHECKSUMS)
        assert seen is not None
        assert seen.problems == ()
        assert seen.manifest.run_id == ("run-2" if is_harmless or step == "marker" else "run-1")

        proxy.clear()
        publish_part(destination, "run-3", in_blocks=False)

    seen = read_published(reader, depth=Depth.CHECKSUMS)
    assert seen is not None
    assert seen.is_complete
    assert seen.manifest.run_id == "run-3"


@pytest.mark.parametrize(("kind", "name", "step"), cases(TRANSIENT))
def test_a_fault_that_passes_costs_a_retry_at_the_most(
    pytestconfig: pytest.Config, kind: StoreKind, name: str, step: str
) -> None:
    """E-42: W4: after one failed try, also one that was done and its answer lost, the run publishes once; nothing is left over.

    What is not repeated at once is said to be worth a retry: a part, whose completion may be complete already.  (A silent store
    is asked once here, except for small objects.)
    """
    in_blocks = step in BLOCK_STEPS
    store = fresh_bucket(kind, pytestconfig)
    reader = destination_in(store)
    run_export(reader, "run-1")

    with behind_proxy(store, **waiting_for(name)) as (destination, proxy):
        fault = fault_at(kind, step, FAULTS[name][0])
        proxy.inject(fault)
        try:
            publish_part(destination, "run-2", in_blocks=in_blocks)
        except DestinationError as exc:
            assert exc.is_transient
            assert (step, name) in NEEDS_RETRY
            publish_part(destination, "run-2", in_blocks=in_blocks)

    assert fault.hits == 1
    seen = read_published(reader, depth=Depth.CHECKSUMS)
    assert seen is not None
    assert seen.is_complete
    assert seen.manifest.run_id == "run-2"
    assert take_inventory(reader).unknown == ()


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
@pytest.mark.parametrize("name", FAULTS)
def test_listing_fails_with_the_same_codes(pytestconfig: pytest.Config, kind: StoreKind, name: str) -> None:
    """E-40: a list that cannot be read is an error with a code, and never a short list."""
    what, code = FAULTS[name]
    store = fresh_bucket(kind, pytestconfig)
    run_export(destination_in(store), "run-1")

    with behind_proxy(store, **waiting_for(name)) as (destination, proxy):
        proxy.inject(fault_at(kind, "list", what, times=None))
        with pytest.raises(DestinationError) as caught:
            list(destination.list())

    assert caught.value.code is code


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_every_client_gives_up_within_a_minute(kind: StoreKind, pytestconfig: pytest.Config) -> None:
    """E-40: connecting, the silence of an answer and the repetition of tries are all limited, by the settings of the client."""
    store = fresh_bucket(kind, pytestconfig)
    options = store_options(config_of(store), store.environ)

    client, retries = options["client_options"], options["retry_config"]
    longest = retries["retry_timeout"] + max(client["connect_timeout"], client["read_timeout"])
    assert longest <= timedelta(minutes=1)
