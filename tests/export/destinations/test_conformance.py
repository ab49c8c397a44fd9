"""What every destination must do: the one suite for all of them."""

from __future__ import annotations

import hashlib
import threading

import pytest

from procflow_export.destinations.port import Destination, ObjectInfo
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError


def test_a_part_is_visible_only_when_it_is_complete(destination: Destination) -> None:
    """E-42: W1: inside its block a part is neither listed nor found; after it, it is there whole."""
    with destination.open_part("a.parquet") as part:
        part.write(b"hello ")
        part.write(bytearray(b"wor"))
        part.write(memoryview(b"ld"))
        assert part.size_bytes == 11
        assert list(destination.list()) == []
        assert destination.head("a.parquet") is None

    assert destination.get("a.parquet") == b"hello world"
    assert destination.head("a.parquet") == ObjectInfo(key="a.parquet", size_bytes=11)


def test_a_stored_part_has_size_and_digest_of_its_bytes(destination: Destination) -> None:
    """E-42: W2: what may be recorded is known after the store acknowledged it, not before."""
    data = b"x" * 3_000_000
    with destination.open_part("a.parquet") as part:
        part.write(data)
        with pytest.raises(RuntimeError):
            _ = part.stored

    assert part.stored.key == "a.parquet"
    assert part.stored.size_bytes == len(data)
    assert part.stored.checksum == f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("size_bytes", [1_000, 20_000_000])
def test_what_was_written_may_change_afterwards(destination: Destination, size_bytes: int) -> None:
    """E-42: W2: a sink has taken what it was given: who reuses the buffer changes nothing of the part."""
    expected = hashlib.sha256()
    buffer = bytearray(size_bytes // 10)
    with destination.open_part("a.parquet") as part:
        for number in range(10):
            buffer[:] = bytes([number + 1]) * len(buffer)
            part.write(memoryview(buffer))
            expected.update(buffer)
            buffer[:] = bytes(len(buffer))

    with destination.open_object("a.parquet") as file:
        assert hashlib.sha256(file.read()).hexdigest() == expected.hexdigest()
    assert part.stored.checksum == f"sha256:{expected.hexdigest()}"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_failed_part_leaves_nothing(destination: Destination, error: type[BaseException]) -> None:
    """E-42: W1: whatever exception leaves the block, a cancellation too, no object appears and an old one stays."""
    with destination.open_part("old.parquet") as part:
        part.write(b"old")

    for key in ("old.parquet", "new.parquet"):
        with pytest.raises(error), destination.open_part(key) as part:
            part.write(b"half")
            raise error

    assert [info.key for info in destination.list()] == ["old.parquet"]
    assert destination.get("old.parquet") == b"old"
    with pytest.raises(RuntimeError):
        _ = part.stored


def test_a_retried_part_replaces_the_first(destination: Destination) -> None:
    """E-42: W1: the same key is replaced in one step: a retried unit leaves one part, its last."""
    for data in (b"first", b"second"):
        with destination.open_part("a.parquet") as part:
            part.write(data)

    assert destination.get("a.parquet") == b"second"
    assert [info.key for info in destination.list()] == ["a.parquet"]


def test_what_is_removed_is_gone_and_nothing_else(destination: Destination) -> None:
    """E-11: parts of an export that starts over are removed one by one; what is not there is no failure."""
    for key in ("a.parquet", "ab.parquet"):
        with destination.open_part(key) as part:
            part.write(b"x")

    destination.remove("a.parquet")
    destination.remove("a.parquet")
    destination.remove("never/was.parquet")

    assert [info.key for info in destination.list()] == ["ab.parquet"]


def test_an_empty_part_is_an_object(destination: Destination) -> None:
    """E-42: W1: a part of no bytes exists."""
    with destination.open_part("empty.csv") as part:
        pass

    assert part.stored.size_bytes == 0
    assert destination.head("empty.csv") == ObjectInfo(key="empty.csv", size_bytes=0)


def test_put_replaces_and_create_does_not(destination: Destination) -> None:
    """E-42: W4: `put` replaces an object; `create` refuses a key that is taken and changes nothing."""
    destination.put("manifest.json", b"1")
    destination.put("manifest.json", b"2")
    with pytest.raises(FileExistsError):
        destination.create("manifest.json", b"3")
    destination.create("other.json", b"4")

    assert destination.get("manifest.json") == b"2"
    assert destination.get("other.json") == b"4"


def test_an_object_is_replaced_only_as_it_was_seen(destination: Destination) -> None:
    """E-43: W4: `replace` takes the version that `read` told; another version, or none, changes nothing."""
    assert destination.read("manifest.json") is None
    assert destination.replace("manifest.json", b"1", expected=None)
    assert not destination.replace("manifest.json", b"x", expected=None)
    first = destination.read("manifest.json")
    assert first is not None
    assert first.data == b"1"

    assert destination.replace("manifest.json", b"2", expected=first.version)
    assert not destination.replace("manifest.json", b"x", expected=first.version)
    assert not destination.replace("other.json", b"x", expected=first.version)

    assert destination.get("manifest.json") == b"2"
    assert destination.get("other.json") is None


@pytest.mark.parametrize("is_new", [True, False])
def test_one_of_many_replaces_what_all_have_seen(destination: Destination, is_new: bool) -> None:
    """E-43: W4: of many that expect the same version at the same time, one succeeds, and its bytes are there."""
    if not is_new:
        destination.put("manifest.json", b"old")
    seen = destination.read("manifest.json")
    expected = None if seen is None else seen.version
    start = threading.Barrier(8)
    winners: list[int] = []

    def work(number: int) -> None:
        start.wait()
        if destination.replace("manifest.json", b"%d" % number, expected=expected):
            winners.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(winners) == 1
    assert destination.get("manifest.json") == b"%d" % winners[0]


def test_readers_see_old_or_new_but_never_a_mixture(destination: Destination) -> None:
    """E-42: W4: while an object is replaced again and again, every read is one of the versions, whole."""
    versions = [bytes([number]) * 100_000 for number in range(20)]
    destination.put("manifest.json", versions[0])
    wrong: list[bytes | None] = []
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            data = destination.get("manifest.json")
            if data not in versions:
                wrong.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in versions * 5:
            destination.put("manifest.json", version)
    finally:
        is_done.set()
        reader.join()

    assert wrong == []


def test_what_is_missing_is_none(destination: Destination) -> None:
    """E-40: a missing object is an answer, not a failure, before and after the place exists."""
    for _ in range(2):
        assert destination.get("nothing") is None
        assert destination.head("nothing") is None
        assert destination.get("some/where/nothing") is None
        with pytest.raises(FileNotFoundError), destination.open_object("nothing"):
            pass
        destination.put("some/thing", b"")


def test_listing_is_ordered_and_by_prefix(destination: Destination) -> None:
    """E-40: objects are listed by key, in order, sub-directories included, and a prefix is a prefix of the key."""
    for key in ("b", "a/2", "a/10", "ab"):
        destination.put(key, key.encode())

    assert [info.key for info in destination.list()] == ["a/10", "a/2", "ab", "b"]
    assert [info.key for info in destination.list("a")] == ["a/10", "a/2", "ab"]
    assert [info.size_bytes for info in destination.list("a/")] == [4, 3]


def test_objects_can_be_read_as_streams(destination: Destination) -> None:
    """E-40: an object of any size is read from its start, in blocks."""
    with destination.open_part("a.parquet") as part:
        part.write(b"abcdef")

    with destination.open_object("a.parquet") as file:
        assert (file.read(4), file.read(4), file.read(4)) == (b"abcd", b"ef", b"")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        ".hidden",
        "a/.hidden",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
    ],
)
def test_keys_that_leave_the_place_are_refused(destination: Destination, key: str) -> None:
    """E-41: no key reaches outside the destination, hides an object, or names what file systems cannot hold."""
    for attempt in (
        lambda: destination.put(key, b""),
        lambda: destination.create(key, b""),
        lambda: destination.get(key),
        lambda: destination.head(key),
        lambda: destination.open_part(key).__enter__(),
        lambda: destination.open_object(key).__enter__(),
    ):
        with pytest.raises(DestinationError) as caught:
            attempt()
        assert caught.value.code is Code.DESTINATION_NOT_USABLE


def test_many_parts_at_once(destination: Destination) -> None:
    """E-40: parts are written from several threads at the same time, into directories that do not exist yet."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for part_number in range(10):
                with destination.open_part(f"day={part_number}/c{number}.parquet") as part:
                    part.write(b"%d" % number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(list(destination.list())) == 80
