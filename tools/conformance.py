"""Write docs/reference/conformance.md: every behaviour that a library of the same field tests, and our test of it.

The items and our words for them are in docs/conformance.toml.  A test says in its docstring which of them it shows, as
``(TPT 107)``, ``(TPT 30, 31, SV1)`` or ``(TPT 98 to 102)``.  What no test shows has a reason in the list.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools import promises

CONFORMANCE = promises.ROOT / "docs" / "conformance.toml"
PAGE = promises.ROOT / "docs" / "reference" / "conformance.md"

TAG = re.compile(r"\(TPT\s+([^)]*)\)")
ITEM = re.compile(r"(?:\d+|[SFB]V\d|[DN]\d+)")
DEFECT = re.compile(r"5\.2[. ](\d+)")
"""How the study numbers defects; the list calls them D1 to D12."""
RANGE = re.compile(r"(\d+)(?:\s*(?:-|–|to)\s*)(\d+)")
LISTED_OPENLY = 3

HEAD = """\
# Conformance

<!-- Made by tools/conformance.py from docs/conformance.toml and the tests' docstrings; do not edit. -->

The library that comes nearest to procflow is [tokio-process-tools](https://docs.rs/tokio-process-tools), for Rust.
We listed, in our own words, every behaviour that its tests check, and the defects that we found in it.
This page says for each of them which test of ours shows the same behaviour, and where ours differs on purpose; or why there is no such test.
Tests that use an event loop run on asyncio, uvloop and trio.
Paths are below `tests/`.

| part | behaviours | with a test | without, for a reason |
|---|---:|---:|---:|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    number: str
    text: str
    ours: str
    """Where our behaviour differs, and how."""
    why_not: str
    """Why no test shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    items: tuple[Item, ...]


def load_sections(text: str) -> list[Section]:
    """Return the sections of conformance.toml in the order of the file.

    Raises:
        PromiseError: If a number appears twice or has a form that no docstring could name.
    """
    sections = [
        Section(
            title=section["title"],
            items=tuple(
                Item(
                    number=str(item["id"]),
                    text=item["text"],
                    ours=item.get("ours", ""),
                    why_not=item.get("why_not", ""),
                )
                for item in section["items"]
            ),
        )
        for section in tomllib.loads(text)["section"]
    ]
    seen: set[str] = set()
    for item in (item for section in sections for item in section.items):
        if item.number in seen:
            raise promises.PromiseError(f"item {item.number} is listed twice")
        if not ITEM.fullmatch(item.number):
            raise promises.PromiseError(f"{item.number!r} is no number of an item")
        seen.add(item.number)
    return sections


def named_items(docstring: str) -> list[str]:
    """Return the items that a docstring names, each once, in its order.

    Raises:
        PromiseError: If something else stands beside ``TPT``.
    """
    numbers: dict[str, None] = {}
    for tag in TAG.finditer(docstring):
        for part in re.split(r"\s*,\s*|\s+and\s+", " ".join(tag[1].split())):
            if ITEM.fullmatch(part):
                numbers[part] = None
            elif defect := DEFECT.fullmatch(part):
                numbers[f"D{defect[1]}"] = None
            elif span := RANGE.fullmatch(part):
                numbers |= dict.fromkeys(str(number) for number in range(int(span[1]), int(span[2]) + 1))
            else:
                raise promises.PromiseError(f"says (TPT {part}), which is not as (TPT 7), (TPT 7, SV1) or (TPT 7 to 9)")
    return list(numbers)


def render(sections: Sequence[Section], tests: Mapping[str, Sequence[str]]) -> str:
    """Return the page.

    Raises:
        PromiseError: If a test names an item that does not exist, or an item has neither test nor reason, or both.
    """
    items = [item for section in sections for item in section.items]
    known = {item.number for item in items}
    for number in tests:
        if number not in known:
            raise promises.PromiseError(
                f"{tests[number][0]} names (TPT {number}), which docs/conformance.toml does not list"
            )
    if bare := [item.number for item in items if item.number not in tests and not item.why_not]:
        raise promises.PromiseError(f"neither a test nor a reason (why_not) for these items: {', '.join(bare)}")
    if both := [item.number for item in items if item.number in tests and item.why_not]:
        raise promises.PromiseError(
            f"these items have a test by now, so no reason (why_not) is needed: {', '.join(both)}"
        )

    lines = [HEAD.rstrip()]
    for section in sections:
        tested = sum(item.number in tests for item in section.items)
        count = len(section.items)
        lines.append(f"| {section.title} | {count} | {tested} | {count - tested} |")
    for section in sections:
        lines += ["", f"## {section.title}", "", "| no. | behaviour | shown by |", "|---|---|---|"]
        lines += [_render_item(item, tests.get(item.number, ())) for item in section.items]
    return "\n".join(lines) + "\n"


def _render_item(item: Item, tests: Sequence[str]) -> str:
    text = item.text + (f" *Ours:* {item.ours}" if item.ours else "")
    return f'| <a id="tpt-{item.number.lower()}"></a>{item.number} | {_cell(text)} | {_shown_by(item, tests)} |'


def _shown_by(item: Item, tests: Sequence[str]) -> str:
    if not tests:
        return f"*no test:* {_cell(item.why_not)}"
    names = [test.removeprefix("tests/") for test in tests]
    if len(names) <= LISTED_OPENLY:
        return "<br>".join(f"`{name}`" for name in names)
    inner = "<br>".join(f"<code>{name}</code>" for name in names)
    return f"<details><summary>{len(names)} tests</summary>{inner}</details>"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    return promises.publish(
        PAGE,
        lambda: render(
            load_sections(CONFORMANCE.read_text("utf-8")), promises.collect_tests(promises.TESTS, named_items)
        ),
        tool="python -m tools.conformance",
        description=__doc__,
    )


if __name__ == "__main__":
    sys.exit(main())
