"""Publishing: its order, what it refuses, and how the published set is read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from procflow_export.destinations import (
    Depth,
    Destination,
    Marker,
    StoredObject,
    Version,
    finish_publication,
    previous_manifest,
    publish,
    read_published,
    take_inventory,
)
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, DestinationError
from procflow_export.model.manifest import MANIFEST_KEY, MARKER_KEY, Manifest, encode_manifest
from tests.export.destinations.memory import MemoryDestination
from tests.export.destinations.publishing import manifest_of, run_export, write_parts

T = TypeVar("T")


class RecordingDestination(MemoryDestination):
    """Tells the order of what is stored, and can fail at one of the steps."""

    def __init__(self, fail_at: str | None = None) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.fail_at = fail_at

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.fail_at:
            raise DestinationError(Code.DESTINATION_UNAVAILABLE, "store is away")

    def put(self, key: str, data: bytes) -> None:
        self._step(f"put {key}")
        super().put(key, data)

    def create(self, key: str, data: bytes) -> None:
        self._step(f"create {key}")
        super().create(key, data)

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        self._step(f"replace {key}")
        return super().replace(key, data, expected=expected)

    def read(self, key: str) -> StoredObject | None:
        self._step(f"read {key}")
        return super().read(key)

    def get(self, key: str) -> bytes | None:
        self._step(f"get {key}")
        return super().get(key)


def without_notes(destination: Destination) -> dict[str, bytes | None]:
    return {info.key: destination.get(info.key) for info in destination.list()}


def test_a_published_run_is_complete(destination: Destination) -> None:
    """E-42: W4, W5: after publishing, manifest, marker and parts agree, by size and by checksum."""
    publication = run_export(destination, "run-1")

    published = read_published(destination, depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.is_complete
    assert published.manifest.run_id == "run-1"
    assert published.digest == publication.digest
    assert publication.superseded == ()
    manifest_bytes = destination.get(MANIFEST_KEY)
    assert manifest_bytes is not None
    assert manifest_bytes == destination.get("manifest-run-1.json")
    assert destination.get(MARKER_KEY) == f"sha256:{hashlib.sha256(manifest_bytes).hexdigest()}\n".encode()


def test_the_order_of_publishing() -> None:
    """E-42: W3, W4, W5: own manifest, canonical manifest, read back, marker, both read: in this order and nothing else."""
    destination = RecordingDestination()
    manifest = manifest_of("run-1", write_parts(destination, "run-1"))

    publish(destination, manifest)

    assert destination.steps == [
        "read manifest.json",
        "create manifest-run-1.json",
        "replace manifest.json",
        "get manifest.json",
        "put _SUCCESS",
        "get manifest.json",
        "get _SUCCESS",
    ]


def test_nothing_published_is_none(destination: Destination) -> None:
    """E-42: a place where nothing was published says so; orphans of a crashed run change nothing."""
    assert read_published(destination) is None
    write_parts(destination, "run-0")

    assert read_published(destination) is None
    assert previous_manifest(destination, "orders") is None


def test_a_rerun_replaces_the_set_and_deletes_nothing(destination: Destination) -> None:
    """E-43: one manifest swap; superseded parts are listed, still there, and sorted in the inventory."""
    run_export(destination, "run-1")
    write_parts(destination, "run-2", part_count=1)  # a run that died before publishing

    publication = run_export(destination, "run-3")

    published = read_published(destination)
    assert published is not None
    assert published.is_complete
    assert {part.key for part in published.manifest.parts} == {f"orders-run-3-c{n:05d}-p000.csv" for n in range(3)}
    assert publication.superseded == tuple(f"orders-run-1-c{n:05d}-p000.csv" for n in range(3))
    inventory = take_inventory(destination)
    assert inventory.published == tuple(f"orders-run-3-c{n:05d}-p000.csv" for n in range(3))
    assert inventory.superseded == publication.superseded
    assert inventory.unknown == ("orders-run-2-c00000-p000.csv",)


@pytest.mark.parametrize("damage", ["missing", "size"])
def test_a_set_with_a_damaged_part_is_not_published(destination: Destination, damage: str) -> None:
    """E-42: W2, W3: a part that is gone or has another size stops the run before anything was written."""
    run_export(destination, "run-1")
    parts = write_parts(destination, "run-2")
    key = "orders-run-2-c00001-p000.csv"
    if damage == "size":
        destination.put(key, b"short")
    else:
        parts = (*parts[:1], msgspec.structs.replace(parts[1], key=key.replace("c00001", "c00009")), *parts[2:])
    before = without_notes(destination)

    with pytest.raises(DestinationError, match="nothing was published") as caught:
        publish(destination, manifest_of("run-2", parts))

    assert caught.value.code is Code.DESTINATION_MISMATCH
    assert without_notes(destination) == before


def test_a_manifest_that_contradicts_itself_is_not_published(destination: Destination) -> None:
    """E-42: W4: row counts must add up and no part may count twice."""
    parts = write_parts(destination, "run-1")
    manifest = manifest_of("run-1", parts)

    for wrong in (msgspec.structs.replace(manifest, row_count=299), manifest_of("run-1", (*parts, parts[0]))):
        with pytest.raises(DataError) as caught:
            publish(destination, wrong)
        assert caught.value.code is Code.ROW_COUNT_MISMATCH
    assert destination.get(MANIFEST_KEY) is None


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        (encode_manifest(manifest_of("run-0", (), export="customers")), "published set of export 'customers'"),
        (b'{"version": 1, "tables": []}', "no manifest of this program"),
        (b"not json", "no manifest of this program"),
        (encode_manifest(msgspec.structs.replace(manifest_of("run-0", ()), version=2)), "newer than 1"),
    ],
)
def test_what_belongs_to_others_is_not_replaced(destination: Destination, existing: bytes, message: str) -> None:
    """E-43: a foreign or newer `manifest.json`, or that of another export, is never overwritten."""
    destination.put(MANIFEST_KEY, existing)
    parts = write_parts(destination, "run-1")

    with pytest.raises(DestinationError, match=message) as caught:
        publish(destination, manifest_of("run-1", parts))

    assert caught.value.code is Code.DESTINATION_NOT_USABLE
    assert destination.get(MANIFEST_KEY) == existing
    assert destination.get(MARKER_KEY) is None


@pytest.mark.parametrize(
    ("step", "is_committed"),
    [
        ("create manifest-run-2.json", False),
        ("replace manifest.json", False),
        ("put _SUCCESS", True),
        ("get _SUCCESS", True),
    ],
)
def test_a_store_that_fails_midway_leaves_old_or_new(step: str, is_committed: bool) -> None:
    """E-43: before the swap readers have the old set with a fresh marker, after it the new one; a rerun completes it."""
    destination = RecordingDestination()
    run_export(destination, "run-1")
    destination.fail_at = step

    with pytest.raises(DestinationError) as caught:
        run_export(destination, "run-2")
    destination.fail_at = None

    assert caught.value.is_transient
    assert any("committed" in note for note in getattr(caught.value, "__notes__", ())) == is_committed
    published = read_published(destination, depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.problems == ()
    assert published.manifest.run_id == ("run-2" if is_committed else "run-1")
    assert published.is_complete == (step != "put _SUCCESS")
    run_export(destination, "run-3")
    published = read_published(destination)
    assert published is not None
    assert published.is_complete
    assert published.manifest.run_id == "run-3"


def test_a_store_that_loses_a_write_is_found_out() -> None:
    """E-42: W5: a manifest that does not read back gets no fresh marker."""

    class Forgetful(MemoryDestination):
        def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
            return super().replace(key, data[:-1], expected=expected)

    destination = Forgetful()
    parts = write_parts(destination, "run-1")

    with pytest.raises(DestinationError, match="does not read back") as caught:
        publish(destination, manifest_of("run-1", parts))
    assert caught.value.code is Code.DESTINATION_MISMATCH
    assert destination.get(MARKER_KEY) is None


def publish_without_marker(destination: Destination, run_id: str) -> Manifest:
    manifest = manifest_of(run_id, write_parts(destination, run_id))
    destination.put(f"manifest-{run_id}.json", encode_manifest(manifest))
    destination.put(MANIFEST_KEY, encode_manifest(manifest))
    return manifest


@pytest.mark.parametrize("had_marker", [False, True])
def test_a_cut_off_publication_can_be_finished(destination: Destination, had_marker: bool) -> None:
    """E-42: W5: the missing or stale marker is told apart, written once, and never on damaged parts."""
    if had_marker:
        run_export(destination, "run-0")
    manifest = publish_without_marker(destination, "run-1")

    published = read_published(destination)
    assert published is not None
    assert published.marker is (Marker.STALE if had_marker else Marker.MISSING)
    assert not published.is_complete

    assert finish_publication(destination)
    assert not finish_publication(destination)
    published = read_published(destination)
    assert published is not None
    assert published.is_complete
    assert published.manifest == manifest


def test_a_damaged_set_gets_no_fresh_marker(destination: Destination) -> None:
    """E-42: W5: finishing refuses a set whose parts are not there."""
    assert not finish_publication(destination)
    publish_without_marker(destination, "run-1")
    destination.put("orders-run-1-c00000-p000.csv", b"")

    with pytest.raises(DestinationError, match=r"c00000-p000\.csv has 0 bytes"):
        finish_publication(destination)
    assert destination.get(MARKER_KEY) is None


def test_publishing_twice_is_the_same_as_once(destination: Destination) -> None:
    """E-43: the same manifest again changes nothing and raises nothing."""
    manifest = manifest_of("run-1", write_parts(destination, "run-1"))
    first = publish(destination, manifest)
    before = without_notes(destination)

    assert publish(destination, manifest) == first
    assert without_notes(destination) == before


def test_a_published_run_cannot_be_told_differently(destination: Destination) -> None:
    """E-42: the manifest of a committed run is immutable; that of a run which never committed is not."""
    parts = write_parts(destination, "run-1")
    destination.create("manifest-run-1.json", encode_manifest(manifest_of("run-1", parts, finished_at="first try")))

    publish(destination, manifest_of("run-1", parts, finished_at="resumed"))
    before = without_notes(destination)
    with pytest.raises(DestinationError, match="published already"):
        publish(destination, manifest_of("run-1", parts, finished_at="again"))

    assert without_notes(destination) == before


def test_checksums_find_what_sizes_do_not(destination: Destination) -> None:
    """E-46: a part of the right size with other bytes is found by reading it."""
    run_export(destination, "run-1")
    key = "orders-run-1-c00001-p000.csv"
    data = destination.get(key)
    assert data is not None
    destination.put(key, bytes([data[0] ^ 1]) + data[1:])

    by_size = read_published(destination)
    by_checksum = read_published(destination, depth=Depth.CHECKSUMS)

    assert by_size is not None
    assert by_size.is_complete
    assert by_checksum is not None
    assert len(by_checksum.problems) == 1
    assert f"part {key} has digest" in by_checksum.problems[0]
    assert not by_checksum.is_complete


class Interrupted(MemoryDestination):
    """Lets another run publish, whole, right before or after one of the steps of this one."""

    def __init__(self, step: str, *, after: bool) -> None:
        super().__init__()
        self.step = step
        self.after = after
        self.other: Callable[[], object] | None = None

    def _around(self, name: str, act: Callable[[], T]) -> T:
        other = self.other if name == self.step else None
        if other is not None:
            self.other = None
        if other is not None and not self.after:
            other()
        result = act()
        if other is not None and self.after:
            other()
        return result

    def put(self, key: str, data: bytes) -> None:
        self._around(f"put {key}", lambda: super(Interrupted, self).put(key, data))

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        return self._around(f"replace {key}", lambda: super(Interrupted, self).replace(key, data, expected=expected))


def test_of_two_that_saw_the_same_one_publishes() -> None:
    """E-43: a set is replaced only if it is still what the publication saw; the other ends with PUBLISHED_MEANWHILE."""
    destination = Interrupted("replace manifest.json", after=False)
    run_export(destination, "run-0")
    mine, theirs = (manifest_of(run, write_parts(destination, run)) for run in ("run-1", "run-2"))
    destination.other = lambda: publish(destination, theirs)

    with pytest.raises(DestinationError) as caught:
        publish(destination, mine)

    assert caught.value.code is Code.PUBLISHED_MEANWHILE
    published = read_published(destination)
    assert published is not None
    assert published.is_complete
    assert published.manifest.run_id == "run-2"


@pytest.mark.parametrize(
    ("step", "after"), [("replace manifest.json", True), ("put _SUCCESS", False), ("put _SUCCESS", True)]
)
def test_a_run_that_publishes_right_after_another_keeps_its_marker(step: str, after: bool) -> None:
    """E-43: whoever comes between commit and marker, the marker belongs to the manifest beside it in the end."""
    destination = Interrupted(step, after=after)
    run_export(destination, "run-0")
    mine, theirs = (manifest_of(run, write_parts(destination, run)) for run in ("run-1", "run-2"))
    destination.other = lambda: publish(destination, theirs)

    publish(destination, mine)

    published = read_published(destination)
    assert published is not None
    assert published.is_complete
    assert published.manifest.run_id == "run-2"


class Mute(MemoryDestination):
    """Does what it is told, and loses the answer: the caller gets an error, or asks again and is refused."""

    def __init__(self, *, raises: bool) -> None:
        super().__init__()
        self.raises = raises
        self.is_deaf = False

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        if not self.is_deaf:
            super().replace(key, data, expected=expected)
        if self.raises:
            raise DestinationError(Code.DESTINATION_UNAVAILABLE, "no answer in time")
        return super().replace(key, data, expected=expected)


@pytest.mark.parametrize("raises", [True, False])
def test_a_commit_whose_answer_was_lost_is_a_commit(raises: bool) -> None:
    """E-43: what counts is what is there: a manifest that was stored without an answer is published, marker and all."""
    destination = Mute(raises=raises)

    run_export(destination, "run-1")

    published = read_published(destination)
    assert published is not None
    assert published.is_complete


def test_a_commit_that_did_not_happen_is_told_as_unknown() -> None:
    """E-43: without an answer and without a manifest the run fails, and says that the next one finds out."""
    destination = Mute(raises=True)
    destination.is_deaf = True

    with pytest.raises(DestinationError) as caught:
        run_export(destination, "run-1")

    assert caught.value.code is Code.DESTINATION_UNAVAILABLE
    assert any("next run finds out" in note for note in caught.value.__notes__)
