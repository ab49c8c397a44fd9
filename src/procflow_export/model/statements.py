"""What a statement is made of, as far as it matters outside of its server: where its texts, names and comments are.

Owns the lexical structure of each database, and the named placeholders (``:name``) that stand between its tokens.  Pure; must
not judge a statement: what is not understood is kept, and the server says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

from procflow_export.model.settings import SourceType


class TokenKind(Enum):
    """What a part of a statement is."""

    FILLER = "filler"
    """White space, semicolons and comments."""
    QUOTED = "quoted"
    """A text or a quoted name; to the end of the statement where nobody closes it."""
    PLACEHOLDER = "placeholder"
    """``:name``, where a value goes."""
    OTHER = "other"


class Token(NamedTuple):
    """A part of a statement, from ``start`` to before ``stop``."""

    kind: TokenKind
    start: int
    stop: int


# A colon after a name, a number, a text or a bracket is none of ours: it separates the bounds of a slice, or a key from its
# value (`a[low:high]`, `JSON_OBJECT('a':b)`).
_PLACEHOLDER: Final = r"(?<![\w$'\"`\])]):(?=[A-Za-z_])[A-Za-z0-9_]+(?![\w$])"
_SPACE: Final = r"[\ \t\r\n\f\v;]+"
_REST: Final = r"[\w$]+ | ::? | ."


def _tokens_of(*, comments: str, quoted: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<filler> {_SPACE} | {comments} ) | (?P<quoted> {quoted} ) | (?P<placeholder> {_PLACEHOLDER} ) | {_REST}",
        re.DOTALL | re.VERBOSE,
    )


_COMMENT: Final = r"/\*.*?(?:\*/|\Z)"
_OPENING: Final = "/*"
_PATTERNS: Final = {
    # https://www.postgresql.org/docs/current/sql-syntax-lexical.html, with standard_conforming_strings on.
    SourceType.POSTGRES: _tokens_of(
        comments=r"--[^\r\n]* | /\*",  # comments nest: see _comment_end()
        quoted=r"""
            [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
            | '(?:[^']|'')*(?:'|\Z)
            | "(?:[^"]|"")*(?:"|\Z)
            | \$(?P<tag>(?:[^\W\d]\w*)?)\$(?:.*?\$(?P=tag)\$|.*)
        """,
    ),
    # https://dev.mysql.com/doc/refman/8.4/en/string-literals.html and comments.html, without NO_BACKSLASH_ESCAPES.  A comment
    # that the server runs (`/*! … */`, MariaDB's `/*M! … */`) is none.
    SourceType.MYSQL: _tokens_of(
        comments=rf"--(?=[\s\x00-\x1f]|\Z)[^\n]* | \#[^\n]* | (?!/\*M?!){_COMMENT}",
        quoted=r"""
            '(?:[^'\\]|\\.|'')*(?:'|\Z)
            | "(?:[^"\\]|\\.|"")*(?:"|\Z)
            | `(?:[^`]|``)*(?:`|\Z)
        """,
    ),
    # https://www.sqlite.org/lang_expr.html and lang_comment.html.
    SourceType.SQLITE: _tokens_of(
        comments=rf"--[^\n]* | {_COMMENT}",
        quoted=r"""
            '(?:[^']|'')*(?:'|\Z)
            | "(?:[^"]|"")*(?:"|\Z)
            | `(?:[^`]|``)*(?:`|\Z)
            | \[[^\]]*(?:\]|\Z)
        """,
    ),
}
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


def tokens(text: str, engine: SourceType) -> Iterator[Token]:
    """Yield the tokens of a statement, which together are all of it; linear in its length."""
    pattern, position = _PATTERNS[engine], 0
    while match := pattern.match(text, position):
        start, position = position, match.end()
        if match["filler"]:
            if match[0] == _OPENING:
                position = _comment_end(text, position)
            yield Token(TokenKind.FILLER, start, position)
        elif match["quoted"]:
            yield Token(TokenKind.QUOTED, start, position)
        elif match["placeholder"]:
            yield Token(TokenKind.PLACEHOLDER, start, position)
        else:
            yield Token(TokenKind.OTHER, start, position)


def body_of(text: str, engine: SourceType) -> str:
    """Return a statement without the white space, comments and semicolons that follow its last token; of several, all."""
    stop = max((token.stop for token in tokens(text, engine) if token.kind is not TokenKind.FILLER), default=0)
    return text[:stop].lstrip()


def placeholder_names(text: str, engine: SourceType) -> tuple[str, ...]:
    """Return the names of the placeholders of a statement, each once, in their order."""
    found = (text[token.start + 1 : token.stop] for token in _placeholders(text, engine))
    return tuple(dict.fromkeys(found))


def filled(text: str, engine: SourceType, values: Mapping[str, str]) -> str:
    """Return a statement with its placeholders replaced; one that ``values`` does not name stays as it is.

    Args:
        text: The statement.
        engine: Whose it is.
        values: SQL by the name of the placeholder that it replaces.
    """
    pieces: list[str] = []
    done = 0
    for token in _placeholders(text, engine):
        value = values.get(text[token.start + 1 : token.stop])
        if value is not None:
            pieces += (text[done : token.start], value)
            done = token.stop
    return "".join((*pieces, text[done:]))


def _placeholders(text: str, engine: SourceType) -> Iterator[Token]:
    return (token for token in tokens(text, engine) if token.kind is TokenKind.PLACEHOLDER)


def _comment_end(text: str, position: int) -> int:
    """Return where a comment ends whose opening ends at ``position``: comments of PostgreSQL nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position
