"""What is kept of a worker's words."""

from __future__ import annotations

import json
import shlex
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.redaction import Secret
from procflow_export.engines.keep import HeadAndTail
from procflow_export.engines.redaction import redaction_of, secrets_of, text_cleaner
from procflow_export.model.settings import SourceConfig, SourceType
from procflow_export.sources.parameters import mysql_literal, postgres_literal


@given(st.lists(st.text(max_size=30), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_head_and_tail_account_for_every_line(lines: list[str], head: int, tail: int) -> None:
    """E-33: standard error is kept head and tail in bounded form; what lies between is counted."""
    kept = HeadAndTail(head_lines=head, tail_lines=tail, max_line_chars=1000)
    for line in lines:
        kept.feed(line)

    left_out = max(0, len(lines) - head - tail)
    assert kept.left_out_lines == left_out
    middle = [f"… {left_out} lines left out …"] if left_out else []
    ending = lines[max(head, len(lines) - tail) :]
    assert kept.text() == "\n".join([*lines[:head], *middle, *ending])


def test_an_endless_line_is_cut() -> None:
    kept = HeadAndTail(max_line_chars=10)
    kept.feed("x" * 1000)

    assert kept.text() == "xxxxxxxxxx… (990 more characters)"


@pytest.mark.parametrize("password", ["s3cret", "p@ss/w:rd?#", "a b+c", "ñandú"])
def test_every_spelling_of_a_secret_is_masked(password: str) -> None:
    """E-2: passwords with any character never reach an error, an event or a screen."""
    from urllib.parse import quote

    url = f"postgresql://me:{quote(password, safe='')}@db.example:5432/shop"
    by_url = secrets_of(SourceConfig(type=SourceType.POSTGRES, url=url), {})
    by_reference = secrets_of(SourceConfig(type=SourceType.POSTGRES, url_env="THE_URL"), {"THE_URL": url})
    by_field = secrets_of(
        SourceConfig(type=SourceType.MYSQL, host="db", user="me", password_env="PW", database="shop"), {"PW": password}
    )
    noise = f"cannot log in with {password} at {url} ({quote(password, safe='')})"

    for secrets in (by_url, by_reference):
        assert redaction_of(secrets).clean_text(noise) == "cannot log in with *** at *** (***)"
    cleaned = redaction_of(by_field).clean_text(noise)
    assert password not in cleaned
    assert quote(password, safe="") not in cleaned


def test_secrets_that_overlap_leave_no_tail() -> None:
    """E-2: where one secret begins inside another, all of both is taken out."""
    sources = [
        SourceConfig(type=SourceType.MYSQL, host="db", user="me", password=text) for text in ("abcdef", "efghij")
    ]
    secrets = [secret for source in sources for secret in secrets_of(source, {})]

    assert redaction_of(secrets).clean_text("said abcdefghij") == "said ***"


def test_the_password_of_another_source_is_masked_in_its_url() -> None:
    """E-2: a URL that nobody named has its password masked."""
    assert redaction_of(()).clean_text("at mysql://me:hunter2@db/shop") == "at mysql://me:***@db/shop"


def test_what_an_operator_must_read_is_left() -> None:
    """E-33: a server's complaint about a password is no password."""
    text = 'InvalidPasswordError: password authentication failed for user "me"'

    assert redaction_of(()).clean_text(text) == text


@pytest.mark.parametrize("password", ["source", "login", "password", "url"])
def test_a_password_may_be_any_word(password: str) -> None:
    """E-2: no password is too plain to be kept secret."""
    by_url = secrets_of(SourceConfig(type=SourceType.MYSQL, url=f"mysql://me:{password}@db/shop"), {})

    assert redaction_of(by_url).clean_text(f"with {password}") == "with ***"


SECRET = 't0k3n\'of\\the "canary" ß'


@pytest.mark.parametrize(
    "spelled",
    [
        repr(SECRET),
        json.dumps(SECRET),
        shlex.quote(SECRET),
        SECRET.replace("'", "''"),
        postgres_literal(SECRET),
        mysql_literal(SECRET),
        quote_plus(SECRET),
    ],
)
def test_a_secret_is_found_as_servers_and_programs_spell_it(spelled: str) -> None:
    """E-2: a server repeats what it was sent, and a program what it was given, each in its own quoting."""
    cleaned = text_cleaner([Secret(SECRET, name="s")])(f"syntax error at or near {spelled} at line 1")

    assert cleaned.startswith("syntax error at or near ")
    assert "***" in cleaned
    assert cleaned.endswith("at line 1")
    assert not [part for part in ("t0k3n", "canary", SECRET.encode().hex()[:12]) if part in cleaned]


@pytest.mark.parametrize("literal", [SECRET, postgres_literal(SECRET)[2:-1], mysql_literal(SECRET)[11:-1]])
def test_a_secret_that_was_cut_leaves_no_rest(literal: str) -> None:
    """E-2: servers cut what they repeat: after its beginning, or before its end."""
    clean = text_cleaner([Secret(SECRET, name="s")])

    for length in range(8, len(literal)):
        head, tail = literal[:length], literal[-length:]
        for text in (
            f"near 'WHERE x = {head}' at line 1",
            f"near 'WHERE x = {head}...' at line 1",
            f"near {head}",
            f"near '{tail} AND y' at line 1",
            f"...{tail} AND y",
        ):
            cleaned = clean(text)
            assert "***" in cleaned
            assert len(cleaned) <= len(text) - length + len("***"), (text, cleaned)
    assert clean("near 't0k3n is what this table is called'") == "near 't0k3n is what this table is called'"
