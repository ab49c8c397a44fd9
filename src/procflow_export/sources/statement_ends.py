"""Where a statement ends: before the white space, comments and semicolons that follow it.

Owns as much of PostgreSQL's lexical structure as that takes.  Must not change anything inside the statement: what is not
understood is kept, and the server judges it.
"""

from __future__ import annotations

import re
from typing import Final

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html, with standard_conforming_strings on.
_TOKEN: Final = re.compile(
    r"""
      (?P<filler> [\s;]+ | --[^\r\n]* )
    | (?P<comment> /\* )
    | [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
    | '(?:[^']|'')*(?:'|\Z)
    | "(?:[^"]|"")*(?:"|\Z)
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$(?:.*?\$(?P=tag)\$|.*)
    | [\w$]+
    | .
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


def postgres_body(text: str) -> str:
    """Return a statement without what follows its last token; of several statements, all."""
    position = end = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        if match["comment"]:
            position = _comment_end(text, position)
        elif not match["filler"]:
            end = position
    return text[:end].lstrip()


def _comment_end(text: str, position: int) -> int:
    """Return where a comment ends whose opening ends at ``position``: comments nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position
