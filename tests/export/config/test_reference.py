"""The reference page and the JSON Schema are the structs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from procflow_export.config.loading import read_config
from procflow_export.config.reference import SECTIONS, attribute_meanings, json_schema, key_tables, later_table
from procflow_export.model.settings import Tuning, TuningProfile

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "config.md"


def test_every_key_has_a_meaning_and_no_meaning_is_left_over() -> None:
    """E-62: a key cannot be added without saying what it does."""
    for _, struct in SECTIONS:
        assert list(attribute_meanings(struct)) == list(struct.__struct_fields__), struct


def test_the_page_shows_the_keys_as_they_are() -> None:
    """E-62: the page's tables are those of the structs; run this file as a program to write them again."""
    _, generated = split_page()

    assert generated == body()


def test_the_page_shows_the_profiles_as_they_are() -> None:
    """E-5: the numbers of the profiles are the program's."""
    page = PAGE.read_text()
    for label, field in [
        ("rows in a batch, at most", "batch_rows"),
        ("`throttle_ms`", "throttle_ms"),
        ("`max_retries`", "max_retries"),
        ("`retry_backoff_ms`", "retry_backoff_ms"),
    ]:
        values = [getattr(Tuning(profile=profile).limits(), field) for profile in TuningProfile]
        assert f"| {label} | {' | '.join(f'{value:,}'.replace(',', ' ') for value in values)} |" in page


def test_the_example_of_the_page_is_valid() -> None:
    """E-62: the first file that a reader copies has no findings."""
    example = PAGE.read_text().split("```yaml\n")[1].split("```")[0]

    read_config(yaml.safe_load(example), environ={"DATABASE_URL": "postgresql://u@h/d"})


def test_the_schema_describes_every_key_and_refuses_unknown_ones() -> None:
    """E-62: editors can complete and check a file."""
    schema = json_schema()

    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    export = definitions["ExportConfig"]
    assert export["additionalProperties"] is False
    assert set(export["required"]) == {"name", "mode", "format"}
    assert export["properties"]["chunk_size"]["description"].startswith("Width of a range of integers")
    assert all("description" in value for value in export["properties"].values())
    assert msgspec.json.decode(msgspec.json.encode(schema)) == schema


def body() -> str:
    return f"\n{key_tables()}\n## Not supported yet\n\nA file that switches one of these on is refused with a finding that says so.\n\n{later_table()}"


def split_page() -> tuple[str, str]:
    before, marker, after = PAGE.read_text().partition("tests compare -->\n")
    return before + marker, after


if __name__ == "__main__":
    PAGE.write_text(split_page()[0] + body())
