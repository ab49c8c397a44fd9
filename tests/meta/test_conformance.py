"""The conformance page says what the tests say, and no behaviour is left out."""

from __future__ import annotations

import re

import pytest

from tools import conformance, promises
from tools.conformance import Item, Section


def section(*items: Item) -> list[Section]:
    return [Section(title="Some", items=items)]


def item(number: str, *, ours: str = "", why_not: str = "") -> Item:
    return Item(number=number, text="What it does.", ours=ours, why_not=why_not)


def test_every_behaviour_has_a_test_or_a_reason() -> None:
    """C-52: the page can be made: each item is tested or has its reason, each test that is named exists."""
    sections = conformance.load_sections(conformance.CONFORMANCE.read_text("utf-8"))

    page = conformance.render(sections, promises.collect_tests(promises.TESTS, conformance.named_items))

    assert page.startswith("# Conformance\n")


def test_no_behaviour_is_left_out() -> None:
    """C-52: 1 to 217, the six defects that were run, the twelve that were read, and what nobody tested."""
    sections = conformance.load_sections(conformance.CONFORMANCE.read_text("utf-8"))
    numbers = [one.number for part in sections for one in part.items]

    assert [number for number in numbers if number.isdigit()] == [str(number) for number in range(1, 218)]
    assert {"SV1", "SV2", "SV3", "SV4", "FV1", "BV1", *(f"D{n}" for n in range(1, 13))} < set(numbers)
    assert sum(number.startswith("N") for number in numbers) == 13


@pytest.mark.parametrize(
    ("docstring", "numbers"),
    [
        ("C-24: one gap per take (TPT 37).", ["37"]),
        ("C-24: both (TPT 37, SV4 and N1).\n\nMore (TPT D2).", ["37", "SV4", "N1", "D2"]),
        ("A range (TPT 98 to 100, 102-103).", ["98", "99", "100", "102", "103"]),
        ("As the study numbers it (TPT 5.2.4, 5.2 5).", ["D4", "D5"]),
        ("Twice (TPT 7) and again (TPT 7).", ["7"]),
        ("TPT 7 without brackets, (ours in place of TPT 8).", []),
    ],
)
def test_a_docstring_names_items_anywhere(docstring: str, numbers: list[str]) -> None:
    assert conformance.named_items(docstring) == numbers


@pytest.mark.parametrize("docstring", ["(TPT seven)", "(TPT )", "(TPT 7; 8)"])
def test_a_tag_in_another_form_is_an_error(docstring: str) -> None:
    with pytest.raises(promises.PromiseError, match="TPT"):
        conformance.named_items(docstring)


@pytest.mark.parametrize(
    ("sections", "tests", "text"),
    [
        (section(item("1")), {}, "neither a test nor a reason .* 1$"),
        (section(item("1", why_not="No.")), {"1": ["tests/a.py::test"]}, "no reason .* 1$"),
        (section(), {"9": ["tests/a.py::test_it"]}, re.escape("tests/a.py::test_it names (TPT 9)")),
    ],
)
def test_a_page_that_would_not_be_true_is_not_made(
    sections: list[Section], tests: dict[str, list[str]], text: str
) -> None:
    with pytest.raises(promises.PromiseError, match=text):
        conformance.render(sections, tests)


@pytest.mark.parametrize("text", ['{ id = 1, text = "a" }, { id = 1, text = "b" }', '{ id = "1a", text = "a" }'])
def test_a_wrong_list_is_refused(text: str) -> None:
    with pytest.raises(promises.PromiseError):
        conformance.load_sections(f'[[section]]\ntitle = "Some"\nitems = [{text}]\n')


def test_a_cell_cannot_break_the_table() -> None:
    one = Item(number="1", text="a | b <c>", ours="d", why_not="")

    row = conformance.render(section(one), {"1": ["tests/a.py::test"]}).splitlines()[-1]

    assert row == '| <a id="tpt-1"></a>1 | a \\| b &lt;c> *Ours:* d | `a.py::test` |'
