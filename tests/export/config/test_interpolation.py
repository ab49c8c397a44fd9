"""``${NAME}`` in parsed values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.config.document import Document, parse_document
from procflow_export.config.interpolation import interpolate
from procflow_export.config.sizes import parse_size


def replaced(value: object, *, params: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> object:
    document = Document(root={"k": value}, file="")
    result = interpolate(document, params=params or {}, environ=environ or {})
    assert not [finding for finding in result.findings if "not used" not in finding.message]
    assert isinstance(result.root, dict)
    return result.root["k"]


@given(st.text().filter(lambda text: "\0" not in text))
def test_a_value_never_changes_the_structure_of_the_file(value: str) -> None:
    """E-12: whatever a variable holds, it stays the one scalar it was written into."""
    document = parse_document("a: {b: '${X}', c: ['${X}', 1]}\n", file="", suffix=".yaml")

    result = interpolate(document, params={"X": value}, environ={})

    assert result.root == {"a": {"b": value, "c": [value, 1]}}


def test_parameters_win_over_the_environment() -> None:
    """E-12: a parameter is closer than the environment."""
    assert replaced("<${X}>", params={"X": "p"}, environ={"X": "e"}) == "<p>"
    assert replaced("<${X}>", environ={"X": "e"}) == "<e>"


def test_values_are_not_interpolated_again() -> None:
    """E-12: a value that looks like a reference stays as it is."""
    assert replaced("${X}", params={"X": "${Y}", "Y": "no"}) == "${Y}"


def test_an_escaped_reference_stays() -> None:
    """E-12: `$${` is a literal `${`."""
    assert replaced("$${X} ${X} $X $$", params={"X": "v"}) == "${X} v $X $$"


@pytest.mark.parametrize("text", ["${X}", "${}", "${a b}", "${1}", "${UNCLOSED", "a ${", "$${X} ${X"])
def test_what_cannot_be_replaced_is_a_finding(text: str) -> None:
    """E-12: unset is never empty."""
    result = interpolate(Document(root={"k": [text]}, file="f"), params={}, environ={})

    (finding,) = result.findings
    assert finding.key == "k[0]"


def test_an_empty_variable_is_a_value() -> None:
    """E-12: set to nothing is not unset."""
    assert replaced("a${X}", environ={"X": ""}) == "a"


def test_a_NUL_is_refused() -> None:
    """E-12: no value smuggles a NUL into a path or a statement."""
    result = interpolate(Document(root="${X}", file=""), params={"X": "a\0b"}, environ={})

    assert "NUL" in result.findings[0].message


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1", 1), (7, 7), ("1KB", 1024), ("512MB", 512 << 20), ("2 GiB", 2 << 30), ("1t", 1 << 40), ("10B", 10)],
)
def test_sizes_are_binary(text: str | int, size_bytes: int) -> None:
    """E-24: `512MB` means binary units."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5MB", "1XB", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """E-24: nothing is guessed."""
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)
