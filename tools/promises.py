"""Write docs/reference/promises.md: every promise, and the tests that name it in their docstring.

A docstring names promises at its beginning: ``C-24: ...``, ``C-24, C-25: ...`` or ``C-20 to C-27: ...``.  The tests are parsed, never
imported, so that the page is the same on every machine.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMISES = ROOT / "docs" / "promises.toml"
PAGE = ROOT / "docs" / "reference" / "promises.md"
TESTS = ROOT / "tests"

NUMBER = r"(?:C|RR|E)-\d+"
NAMES = re.compile(rf"(?={NUMBER}\b)([^:]{{1,120}}):\s")
LOOKS_NAMED = re.compile(NUMBER + r"\b")
RANGE = re.compile(r"(C|RR|E)-(\d+) to \1-(\d+)")
INVARIANT = re.compile(r"W\d(?:-W\d)?")
"""The steps of a commit (E-42) have numbers of their own, which may stand beside a promise."""
LISTED_OPENLY = 3

HEAD = """\
# Promises

<!-- Made by tools/promises.py from docs/promises.toml and the tests' docstrings; do not edit. -->

What this project promises, by number, and the tests that show it.
A promise counts as tested when at least one test names it in its docstring; such a test may cover a part of it, and its name says which.
"Not yet" means that no test shows it, and mostly that it is not built.
Some texts cite notes of the project's research, which are not part of the repository: RV is a study of an export tool, TPT one of a process library.

| part | promises | with a test |
|---|---:|---:|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    number: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    promises: tuple[Promise, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    title: str
    sections: tuple[Section, ...]

    @property
    def promises(self) -> list[Promise]:
        return [promise for section in self.sections for promise in section.promises]


class PromiseError(Exception):
    """A docstring or the list of promises is wrong: fix the text."""


def load_parts(text: str) -> list[Part]:
    """Return the parts of promises.toml in the order of the file.

    Raises:
        PromiseError: If a number appears twice, however it is spelled.
    """
    parts = [
        Part(
            title=part["title"],
            sections=tuple(
                Section(
                    title=section["title"],
                    promises=tuple(Promise(number=p["id"], text=p["text"]) for p in section["promise"]),
                )
                for section in part["section"]
            ),
        )
        for part in tomllib.loads(text)["part"]
    ]
    seen: set[str] = set()
    for promise in (promise for part in parts for promise in part.promises):
        if canonical(promise.number) in seen:
            raise PromiseError(f"{promise.number} is listed twice")
        seen.add(canonical(promise.number))
    return parts


def canonical(number: str) -> str:
    """Return the one spelling of a number: ``RR-01`` and ``RR-1`` are the same promise."""
    kind, _, digits = number.partition("-")
    return f"{kind}-{int(digits)}"


def named_promises(docstring: str) -> list[str]:
    """Return the numbers that a docstring begins with, in its order; empty if it names none.

    Raises:
        PromiseError: If it begins with a number but not in one of the forms.
    """
    docstring = docstring.strip()
    if not LOOKS_NAMED.match(docstring):
        return []
    numbers: list[str] = []
    match = NAMES.match(docstring + " ")
    for item in re.split(r",\s*|\s+and\s+", match[1]) if match else [""]:
        if re.fullmatch(NUMBER, item):
            numbers.append(canonical(item))
        elif span := RANGE.fullmatch(item):
            numbers += [f"{span[1]}-{number}" for number in range(int(span[2]), int(span[3]) + 1)]
        elif not INVARIANT.fullmatch(item):
            raise PromiseError(
                "begins with a promise's number, but not as `C-24: ...`, `C-24, C-25: ...` or `C-20 to C-27: ...`"
            )
    return numbers


def docstrings(tests: Path) -> Iterator[tuple[str, str]]:
    """Yield (test id, docstring) for every function and class below ``tests`` that has one, in the order of files and lines."""

    def visit(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            qualified = f"{prefix}::{node.name}"
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield qualified, docstring
            if isinstance(node, ast.ClassDef):
                yield from visit(node.body, qualified)

    for path in sorted(tests.rglob("*.py")):
        name = path.relative_to(tests.parent).as_posix()
        yield from visit(ast.parse(path.read_text("utf-8"), filename=str(path)).body, name)


def collect_tests(tests: Path, named: Callable[[str], Sequence[str]] = named_promises) -> dict[str, list[str]]:
    """Return, for each number that ``named`` finds in some docstring, the ids of those tests in the order of files and lines.

    Raises:
        PromiseError: If a docstring names numbers in a form that does not exist.
    """
    found: dict[str, list[str]] = {}
    for test, docstring in docstrings(tests):
        try:
            numbers = named(docstring)
        except PromiseError as exc:
            raise PromiseError(f"{test}: the docstring {exc}") from None
        for number in numbers:
            found.setdefault(number, []).append(test)
    return found


def render(parts: Sequence[Part], tests: Mapping[str, Sequence[str]]) -> str:
    """Return the page.

    Raises:
        PromiseError: If a test names a promise that does not exist.
    """
    known = {canonical(promise.number) for part in parts for promise in part.promises}
    for number in tests:
        if number not in known:
            raise PromiseError(f"{tests[number][0]} names {number}, which docs/promises.toml does not list")

    lines = [HEAD.rstrip()]
    for part in parts:
        tested = sum(canonical(promise.number) in tests for promise in part.promises)
        lines.append(f"| {part.title} | {len(part.promises)} | {tested} |")
    for part in parts:
        lines += ["", f"## {part.title}"]
        for section in part.sections:
            lines += ["", f"### {section.title}"]
            for promise in section.promises:
                lines += ["", *_render_promise(promise, tests.get(canonical(promise.number), ()))]
    return "\n".join(lines) + "\n"


def _render_promise(promise: Promise, tests: Sequence[str]) -> list[str]:
    # A placeholder such as <run_id> outside code would be read as an HTML tag.
    spans = re.split(r"(`[^`]*`)", promise.text)
    text = "".join(span if span.startswith("`") else span.replace("<", "&lt;") for span in spans)
    lines = [f'<a id="{promise.number.lower()}"></a>**{promise.number}** {text}', ""]
    if not tests:
        return [*lines, "Not yet."]
    if len(tests) <= LISTED_OPENLY:
        return [*lines, "Tested by:", "", *(f"- `{test}`" for test in tests)]
    items = "".join(f"<li><code>{test}</code></li>" for test in tests)
    return [*lines, f"<details><summary>Tested by {len(tests)} tests</summary><ul>{items}</ul></details>"]


def publish(path: Path, make: Callable[[], str], *, tool: str, description: str | None) -> int:
    """Write the page that ``make`` returns, or with ``--check`` only compare it; return the exit status of ``tool``."""
    parser = argparse.ArgumentParser(prog=tool, description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not up to date")
    arguments = parser.parse_args()
    try:
        page = make()
    except PromiseError as exc:
        print(exc, file=sys.stderr)
        return 1
    if path.is_file() and path.read_text("utf-8") == page:
        return 0
    if arguments.check:
        print(f"{path.relative_to(ROOT)} is not up to date; to write it: {tool}", file=sys.stderr)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)
    return 0


def main() -> int:
    return publish(
        PAGE,
        lambda: render(load_parts(PROMISES.read_text("utf-8")), collect_tests(TESTS)),
        tool="python tools/promises.py",
        description=__doc__,
    )


if __name__ == "__main__":
    sys.exit(main())
