"""Secrets that nobody named, and the switches of the rules."""

from __future__ import annotations

import re

import pytest

import procflow as pf
from procflow.record.redaction import RedactionRules, Redactor, Secret

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("rule", "argv"),
    [
        ("options", ["tool", "--password", SECRET]),
        ("options", ["tool", f"--token={SECRET}"]),
        ("options", ["tool", f"--client-secret=two words {SECRET}"]),
        ("options", ["tool", "--api-key", SECRET]),
        ("options", ["sh", "-c", f"tool --password '{SECRET} x'"]),
        ("assignments", ["env", f"DB_PASSWORD={SECRET}", "tool"]),
        ("assignments", ["sh", "-c", f"export TOKEN={SECRET}; tool"]),
        ("headers", ["curl", "-H", f"Authorization: Bearer {SECRET}"]),
        ("headers", ["curl", "-H", f"X-Api-Key: {SECRET}"]),
        ("headers", ["curl", "-d", f'{{"password": "{SECRET}", "user": "me"}}']),
        ("urls", ["psql", f"postgresql://me:{SECRET}@host/db"]),
        ("urls", ["git", "clone", f"https://{SECRET}@host/repo.git"]),
    ],
)
def test_a_rule_finds_what_nobody_named_and_can_be_switched_off(rule: str, argv: list[str]) -> None:
    """RR-80: options, assignments, headers and URLs give their secret away, and only while their rule is on."""
    cleaned = Redactor().redact_argv(argv)
    assert SECRET not in " ".join(cleaned)
    assert f"<redacted:{rule.removesuffix('s')}>" in " ".join(cleaned)
    assert Redactor().redact_argv(cleaned) == cleaned
    assert SECRET not in Redactor().redact_text(" ".join(argv)) or "two words" in argv[1]

    assert Redactor(rules=RedactionRules(**{rule: False})).redact_argv(argv) == argv  # type: ignore[arg-type]  # a switch
    assert Redactor(rules=RedactionRules.none()).redact_argv(argv) == argv


def test_own_patterns() -> None:
    """RR-80: an expression of the user's own takes out its match, or its group `secret`."""
    rules = RedactionRules(patterns={"card": r"\b\d{16}\b", "pin": re.compile(r"pin (?P<secret>\d+)")})
    made = Redactor(rules=rules)

    assert made.redact_text("card 1234567890123456, pin 99") == "card <redacted:card>, pin <redacted:pin>"
    assert made.redact_argv(["pin 99"]) == ["pin <redacted:pin>"]
    assert rules.names == ("assignment", "header", "option", "url", "card", "pin")


def test_a_secret_that_a_rule_finds_keeps_its_name() -> None:
    """RR-77: what is known and stands in a telling place has both names."""
    made = Redactor([Secret("hunter2-hunter2", name="db")])

    assert made.redact_argv(["--password", "hunter2-hunter2"]) == ["--password", "<redacted:db,option>"]
    assert made.redact_text("hunter2-hunter2") == "<redacted:db>"


def test_variables_with_telling_names() -> None:
    """RR-80: the value of such a variable is taken out as a whole, and so is that of a key in a note."""
    assert Redactor().redact_variables({"DB_PASSWORD": "two words", "LANG": "C"}) == {
        "DB_PASSWORD": "<redacted:assignment>",
        "LANG": "C",
    }
    assert Redactor().redact_json({"a": {"token": "x", "b": ["y", 1]}}) == {
        "a": {"token": "<redacted:assignment>", "b": ["y", 1]}
    }
    assert Redactor(rules=RedactionRules.none()).redact_variables({"DB_PASSWORD": "x"}) == {"DB_PASSWORD": "x"}


def test_what_is_no_secret_stays() -> None:
    """RR-80: ordinary words are recorded as they are."""
    argv = ["git", "-C", "/srv", "log", "--author=me", "key=value", "https://host/?q=1", "git@host:x.git", "PWD=/", "é"]

    assert Redactor([Secret("hunter2-hunter2", name="db")]).redact_argv(argv) == argv


@pytest.mark.parametrize("text", ["--token=x", "TOKEN=y --password z", "Cookie: a=b", "http://u:p@h x", "plain"])
def test_a_command_and_its_description_hide_the_same(text: str) -> None:
    """RR-80: the record and `Command.describe()` follow one set of rules."""
    described = pf.Redaction().clean_text(text)

    assert re.sub(r"<redacted:[a-z,]+>", "<redacted>", Redactor().redact_text(text)) == described


@pytest.mark.parametrize(
    "wrong", [{"words": "token"}, {"words": ("",)}, {"patterns": {"a b": "x"}}, {"patterns": {"a": "("}}]
)
def test_rules_that_mean_something_else(wrong: dict[str, object]) -> None:
    """RR-80: a text in place of several, an empty word, a bad name and a bad expression are refused."""
    with pytest.raises((TypeError, ValueError, re.error)):
        RedactionRules(**wrong)  # type: ignore[arg-type]  # wrong on purpose
