"""Finding the code blocks of the documentation, and what the comments before them say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"<!--\s*snippet:\s*(.*?)\s*-->")
FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+)(?P<language>[a-z]*)[^\n]*\n(?P<body>.*?)^(?P=indent)(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)
MARKS = ("continues", "fragment", "needs shop", "needs export", "needs postgres", "needs mariadb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """One block of code of a page."""

    page: str
    line: int
    language: str
    code: str
    marks: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the README and every page of the site."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets_of(path: Path, text: str) -> list[Snippet]:
    """Return the blocks of one page in their order; a block marked `continues` has the blocks before it in front.

    Raises:
        ValueError: If a mark is unknown.
    """
    found: list[Snippet] = []
    so_far: dict[str, str] = {}
    for match in FENCE.finditer(text):
        language, indent = match["language"], match["indent"]
        code = re.sub(rf"^{indent}", "", match["body"], flags=re.MULTILINE)
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
        marks = tuple(mark.strip() for group in MARK.findall(before) for mark in group.split(","))
        line = text.count("\n", 0, match.start()) + 1
        for mark in marks:
            if mark not in MARKS:
                raise ValueError(f"{path.name}:{line}: unknown mark {mark!r}; there are {', '.join(MARKS)}")
        if "continues" in marks:
            code = so_far[language] + code
        if "fragment" not in marks:
            so_far[language] = code
        page = path.relative_to(ROOT).as_posix()
        found.append(Snippet(page=page, line=line, language=language, code=code, marks=marks))
    return found


def all_snippets(*languages: str) -> list[Snippet]:
    """Return the blocks in these languages on all pages."""
    return [
        snippet
        for page in pages()
        for snippet in snippets_of(page, page.read_text("utf-8"))
        if snippet.language in languages
    ]
