"""Job ids as directories."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record.logs.paths import job_directory, job_id_of, log_path

IDS = st.text(st.sampled_from("aA.%/\\\0é-_ \ud800") | st.characters(), max_size=300)
ODD = [
    "..",
    ".",
    "",
    "a/b",
    "a\0b",
    "../../etc/passwd",
    "%2E%2E",
    "%",
    "%_",
    "x" * 300,
    "é" * 300,
    "a.",
    ".a",
    "con",
    "\udcff",
]


@pytest.mark.parametrize("job_id", ODD)
def test_odd_ids_have_a_directory_of_their_own(job_id: str, tmp_path: Path) -> None:
    """RR-71: `..`, slashes, NUL, nothing and 300 bytes are directories below `jobs`, and give the id back."""
    directory = job_directory(job_id)

    assert job_id_of(directory) == job_id
    (tmp_path / "jobs" / directory).mkdir(parents=True)
    assert Path(os.path.realpath(tmp_path / "jobs" / directory)).is_relative_to(tmp_path / "jobs")


@given(IDS)
def test_every_id_survives(job_id: str) -> None:
    """RR-71: the encoding is reversible, and its names are short and of safe characters."""
    directory = job_directory(job_id)

    assert job_id_of(directory) == job_id
    for part in directory.split("/"):
        assert re.fullmatch(r"[a-z0-9._%A-F-]{1,240}", part)
        assert not part.startswith(".")
        assert not part.endswith(".")


@given(first=IDS, second=IDS, length=st.integers(0, 3))
def test_no_two_ids_share_a_directory(first: str, second: str, length: int) -> None:
    """RR-71: ids that differ, if only in case, differ also where the file system ignores case, and no log is in two of them."""
    for one, other in ((first, second), (first, first.swapcase()), (first, first[:length])):
        if one != other:
            paths = [{log_path(job_id, attempt=attempt, sh=1).lower() for attempt in (1, 2)} for job_id in (one, other)]
            assert not paths[0] & paths[1]


def test_a_long_id_goes_on_below() -> None:
    """RR-71: a name ends in `%` if the next directory goes on with it, and escapes are not divided."""
    directory = job_directory("x" * 237 + "A" + "b" * 100)

    assert directory == "x" * 237 + "%/" + "%41" + "b" * 100
    assert job_id_of(directory) == "x" * 237 + "A" + "b" * 100


@pytest.mark.parametrize("directory", ["", "A", "%41/x", "%4a", "%zz", "..", "a%", "a b", "%FF", "x/y"])
def test_a_directory_of_no_job_is_refused(directory: str) -> None:
    """RR-71: what is not the directory of an id is an error, not an id."""
    with pytest.raises(ValueError):
        job_id_of(directory)


def test_paths_of_logs() -> None:
    """RR-71: the first attempt is in the job's directory, later ones in one of their own."""
    assert log_path("build", attempt=1, sh=1) == "jobs/build/sh-0001.log"
    assert log_path("build", attempt=2, sh=12345) == "jobs/build/a2/sh-12345.log"
