"""The promises page says what the tests say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import promises

ROOT = Path(__file__).resolve().parents[2]


def test_every_docstring_of_a_test_names_promises_that_exist() -> None:
    parts = promises.load_parts(promises.PROMISES.read_text("utf-8"))

    page = promises.render(parts, promises.collect_tests(promises.TESTS))

    assert page.startswith("# Promises\n")


def test_every_promise_of_the_three_specifications_is_on_the_page() -> None:
    page = promises.render(promises.load_parts(promises.PROMISES.read_text("utf-8")), {})

    for number in ("C-1", "C-93", "RR-01", "RR-104", "E-1", "E-67"):
        assert f"**{number}** " in page


@pytest.mark.parametrize(
    ("docstring", "numbers"),
    [
        ("C-24: one gap per take", ["C-24"]),
        ("C-24, E-5: both", ["C-24", "E-5"]),
        ("C-24 and E-5: both", ["C-24", "E-5"]),
        ("C-20 to C-22, C-25: several", ["C-20", "C-21", "C-22", "C-25"]),
        ("E-43, W1-W5: a step of the commit too", ["E-43"]),
        ("RR-01: the spec's own spelling", ["RR-1"]),
        ("RR-100:\n    text", ["RR-100"]),
        ("the stream (C-24) keeps its bound", []),
        ("", []),
    ],
)
def test_a_docstring_names_promises_at_its_beginning(docstring: str, numbers: list[str]) -> None:
    assert promises.named_promises(docstring) == numbers


@pytest.mark.parametrize(
    "docstring", ["C-24 one gap per take", "C-24 or C-25: both", "C-24", "C-20 to C-27 for one log"]
)
def test_a_number_in_another_form_is_an_error(docstring: str) -> None:
    with pytest.raises(promises.PromiseError):
        promises.named_promises(docstring)


def test_tests_are_found_in_functions_and_classes(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        'def test_plain():\n    """C-1: a"""\n\nclass TestGroup:\n    async def test_inner(self):\n        """C-1, E-2: b"""\n'
    )

    assert promises.collect_tests(tests) == {
        "C-1": ["tests/test_it.py::test_plain", "tests/test_it.py::TestGroup::test_inner"],
        "E-2": ["tests/test_it.py::TestGroup::test_inner"],
    }


def test_a_test_that_names_an_unknown_promise_fails_the_page() -> None:
    with pytest.raises(promises.PromiseError, match="C-999"):
        promises.render([], {"C-999": ["tests/test_it.py::test_plain"]})
