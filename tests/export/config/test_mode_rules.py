"""The rules of modes: every key in its mode, no two that contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from procflow_export.config.loading import read_config
from procflow_export.config.mode_rules import MODE_KEYS
from procflow_export.config.places import manifest_place
from procflow_export.config.sizes import parse_duration_s
from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.model.errors import ConfigError, Finding

GOOD: dict[Mode, dict[str, Any]] = {
    Mode.FULL: {},
    Mode.CHUNKED: {},
    Mode.INCREMENTAL: {"cursor_column": "at"},
    Mode.TIME_WINDOW: {"time_column": "at", "days_window": 7},
}
VALUES: dict[str, Any] = {
    "chunk_column": "a",
    "chunk_by_key": "a",
    "chunk_by_days": 1,
    "chunk_size": 1,
    "chunk_count": 1,
    "chunk_max_attempts": 1,
    "keyset_incremental": True,
    "cursor_column": "a",
    "incremental_cursor_mode": "single_column",
    "cursor_fallback_column": "a",
    "settle": {"after": "1h"},
    "time_column": "a",
    "time_column_type": "unix",
    "days_window": 1,
}


def findings_of(mode: Mode | str, export: dict[str, Any], *, path: str = "out") -> list[Finding]:
    values = {"name": "t", "table": "t", "format": "parquet", "mode": str(mode)} | export
    root = {
        "source": {"type": "sqlite", "path": "x.db"},
        "destination": {"type": "local", "path": path},
        "exports": [{key: value for key, value in values.items() if value is not None}],
    }
    try:
        read_config(root, base_dir=Path("/conf"))
    except ConfigError as exc:
        return list(exc.findings)
    return []


def keys_of(findings: list[Finding]) -> set[str]:
    return {finding.key.removeprefix("exports[0].") for finding in findings}


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_accepts_its_own_keys(mode: Mode) -> None:
    """E-62: the least that each mode needs has no findings."""
    assert findings_of(mode, GOOD[mode]) == []


@pytest.mark.parametrize(
    ("mode", "key"),
    [(mode, key) for mode in Mode for owner, keys in MODE_KEYS.items() if owner is not mode for key in keys],
)
def test_a_key_outside_its_mode_is_an_error(mode: Mode, key: str) -> None:
    """E-62: no knob is accepted and ignored: a chunk size in a full export would be one huge statement (lesson 40)."""
    (finding,) = findings_of(mode, GOOD[mode] | {key: VALUES[key]})

    assert finding.key == f"exports[0].{key}"
    assert finding.allowed in {f"mode: {owner.value}" for owner, keys in MODE_KEYS.items() if key in keys}


def test_the_table_of_keys_is_complete() -> None:
    """E-62: a key that is added to a mode has a rule."""
    named = {key for keys in MODE_KEYS.values() for key in keys}
    prefixes = ("chunk_", "cursor_", "time_", "days_", "incremental_", "keyset_", "settle")

    assert named == set(VALUES)
    assert named == {field for field in ExportConfig.__struct_fields__ if field.startswith(prefixes)}


WRONG: dict[str, tuple[Mode, dict[str, Any], str]] = {
    "key and column": (Mode.CHUNKED, {"chunk_by_key": "a", "chunk_column": "b"}, "chunk_column"),
    "key and days": (Mode.CHUNKED, {"chunk_by_key": "a", "chunk_by_days": 1}, "chunk_by_days"),
    "days and size": (Mode.CHUNKED, {"chunk_column": "a", "chunk_by_days": 1, "chunk_size": 1}, "chunk_size"),
    "days and count": (Mode.CHUNKED, {"chunk_column": "a", "chunk_by_days": 1, "chunk_count": 1}, "chunk_count"),
    "size and count": (Mode.CHUNKED, {"chunk_size": 1, "chunk_count": 1}, "chunk_count"),
    "going on in counted slices": (
        Mode.CHUNKED,
        {"chunk_by_key": "a", "keyset_incremental": True, "chunk_count": 3},
        "chunk_count",
    ),
    "days of no column": (Mode.CHUNKED, {"chunk_by_days": 1}, "chunk_column"),
    "query without a key": (Mode.CHUNKED, {"table": None, "query": "select 1"}, "chunk_column"),
    "going on without a key": (Mode.CHUNKED, {"keyset_incremental": True}, "chunk_by_key"),
    "empty key": (Mode.CHUNKED, {"chunk_by_key": []}, "chunk_by_key"),
    "key of one column twice": (Mode.CHUNKED, {"chunk_by_key": ["a", "a"]}, "chunk_by_key"),
    "zero size": (Mode.CHUNKED, {"chunk_size": 0}, "chunk_size"),
    "zero count": (Mode.CHUNKED, {"chunk_count": 0}, "chunk_count"),
    "zero days": (Mode.CHUNKED, {"chunk_column": "a", "chunk_by_days": 0}, "chunk_by_days"),
    "number as a key": (Mode.CHUNKED, {"chunk_by_key": 7}, "chunk_by_key"),
    "number in a key": (Mode.CHUNKED, {"chunk_by_key": ["a", 7]}, "chunk_by_key[1]"),
    "no cursor": (Mode.INCREMENTAL, {}, "cursor_column"),
    "coalesce without a fallback": (
        Mode.INCREMENTAL,
        {"cursor_column": "a", "incremental_cursor_mode": "coalesce"},
        "cursor_fallback_column",
    ),
    "fallback without coalesce": (
        Mode.INCREMENTAL,
        {"cursor_column": "a", "cursor_fallback_column": "b"},
        "cursor_fallback_column",
    ),
    "fallback on itself": (
        Mode.INCREMENTAL,
        {"cursor_column": "a", "cursor_fallback_column": "a", "incremental_cursor_mode": "coalesce"},
        "cursor_fallback_column",
    ),
    "unknown cursor mode": (
        Mode.INCREMENTAL,
        {"cursor_column": "a", "incremental_cursor_mode": "coalesced"},
        "incremental_cursor_mode",
    ),
    "settle without an age": (Mode.INCREMENTAL, {"cursor_column": "a", "settle": {}}, "settle.after"),
    "settle without a unit": (Mode.INCREMENTAL, {"cursor_column": "a", "settle": {"after": "90"}}, "settle.after"),
    "settle before the calendar": (
        Mode.INCREMENTAL,
        {"cursor_column": "a", "settle": {"after": "999999999d"}},
        "settle.after",
    ),
    "settle with a misspelt key": (
        Mode.INCREMENTAL,
        {"cursor_column": "a", "settle": {"after": "1h", "colum": "a"}},
        "settle.colum",
    ),
    "no time column": (Mode.TIME_WINDOW, {"days_window": 1}, "time_column"),
    "no window": (Mode.TIME_WINDOW, {"time_column": "a"}, "days_window"),
    "window before the calendar": (Mode.TIME_WINDOW, {"time_column": "a", "days_window": 9_999_999}, "days_window"),
    "zero window": (Mode.TIME_WINDOW, {"time_column": "a", "days_window": 0}, "days_window"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_rules_between_keys_of_a_mode(name: str) -> None:
    """E-62: what is missing, zero or contradicts another key is found, at its key."""
    mode, export, key = WRONG[name]

    assert key in keys_of(findings_of(mode, export))


def test_the_nearest_name_is_offered() -> None:
    """E-62: a misspelt key or value of a mode comes with what was meant (lesson 40)."""
    findings = findings_of(Mode.INCREMENTAL, {"cursor_colum": "a", "incremental_cursor_mode": "coalesced"})
    window = findings_of("time_windows", {"time_column": "a"})

    nearest = {finding.key.removeprefix("exports[0]."): finding.nearest for finding in (*findings, *window)}
    assert nearest["cursor_colum"] == "cursor_column"
    assert nearest["incremental_cursor_mode"] == "coalesce"
    assert nearest["mode"] == "time_window"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("2D", 172_800), (" 1 h ", 3600)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    """E-10: `settle.after` is a number and its unit."""
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1", "1w", "-1h", "1.5h", "1h30m", "36526d", "99999999999999s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """E-62: nothing is guessed."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("out", ("out/{export}", "")),
        ("out/{export}/x/", ("out/{export}/x", "")),
        ("out/{date}", ("out/{export}", "{date}")),
        ("out/{export}/{date}//y-{hour}", ("out/{export}", "{date}/y-{hour}")),
        ("{run_id}/a", ("{export}", "{run_id}/a")),
    ],
)
def test_the_place_of_a_manifest_is_what_does_not_change(path: str, expected: tuple[str, str]) -> None:
    """E-41: placeholders that differ from run to run are for the parts of a set that grows."""
    assert manifest_place(path, is_cumulative=True) == expected
    assert manifest_place(path, is_cumulative=False)[1] == ""


@pytest.mark.parametrize("path", ["out/{date}/{export}", "out/{date}-{export}", "out/{export}/{date}/.{hour}"])
def test_a_set_that_grows_needs_a_place_of_its_own(path: str) -> None:
    """E-41, E-43: a manifest that would move with every run, or lie in a shared place, is a finding before any run."""
    assert "destination" in keys_of(findings_of(Mode.INCREMENTAL, GOOD[Mode.INCREMENTAL], path=path))
    assert findings_of(Mode.FULL, {}, path=path) == []
