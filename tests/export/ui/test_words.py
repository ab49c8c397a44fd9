"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.ui import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9_949, "9.9k"),
        (99_949, "99.9k"),
        (999_400, "999k"),
        (999_600, "1.0M"),
        (2_500_000_000, "2.5G"),
    ],
)
def test_compact(number: int, text: str) -> None:
    assert words.compact(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (150 << 30, "150 GiB"),
    ],
)
def test_size(number: int, text: str) -> None:
    assert words.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (75, "1:15"),
        (3725, "1:02:05"),
        (90_061, "1d 1:01:01"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_numbers_never_widen_a_column_by_much(number: int) -> None:
    """E-63: the columns of the cards have bounded widths."""
    assert len(words.compact(number)) <= 6
    assert len(words.size(number)) <= 8
    assert len(words.duration(number / 1e6)) <= 16


def test_only_the_end_is_a_hundred_percent() -> None:
    assert [words.percent(fraction) for fraction in (0.0, 0.999, 1.0, 1.5, -1.0)] == ["0%", "99%", "100%", "100%", "0%"]
