"""Known secrets in texts, bytes, arguments and mappings: every form, every overlap, once and twice."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import threading
import urllib.parse
import warnings
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record.redaction import RedactionRules, Redactor, Secret, ShortSecretWarning
from procflow.record.redaction.needles import forms_of
from procflow.record.redaction.redactor import Json
from procflow.redaction.matching import Needle

AWKWARD = "pä'ss w\"ord/+$%\\1"
NO_RULES = RedactionRules.none()
VALUES = st.text(
    alphabet=st.sampled_from("abAB12 '\"/+%$\\&ä\n€") | st.characters(codec="utf-8", exclude_characters="<>"),
    min_size=8,
    max_size=24,
).filter(lambda text: len(text.rstrip("\r\n").encode()) >= 8)
AROUND = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=8)


def redactor(*values: str | bytes, rules: RedactionRules = NO_RULES) -> Redactor:
    made = Redactor(rules=rules)
    for number, value in enumerate(values):
        made.add(Secret(os.fsencode(value), name=f"s{number}"))
    return made


ENCODERS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "without newlines at the end": lambda text: text.rstrip("\r\n"),
    "json": json.dumps,
    "json utf-8": lambda text: json.dumps(text, ensure_ascii=False),
    "json with escaped slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent of a path": urllib.parse.quote,
    "percent in lower case": lambda text: re.sub(
        "%..", lambda escape: escape[0].lower(), urllib.parse.quote(text, safe="")
    ),
    "form": urllib.parse.quote_plus,
    "encodeURIComponent": lambda text: urllib.parse.quote(text, safe="!'()*"),
    "shell": shlex.quote,
    "shell as bash prints it": lambda text: "'" + text.replace("'", "'\\''") + "'",
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@given(value=VALUES, before=AROUND, after=AROUND)
def test_no_form_of_a_secret_survives(encode: Callable[[str], str], value: str, before: str, after: str) -> None:
    """RR-78: a secret is found raw, JSON-escaped, percent-encoded and quoted for a shell, whatever stands around it."""
    form = encode(value).rstrip("\r\n").strip("'\"")
    text = before + encode(value) + after

    cleaned = redactor(value).redact_text(text)
    cleaned_bytes = redactor(value).redact_bytes(text.encode())

    assert "<redacted:s0>" in cleaned
    assert len(form) < 8 or form not in cleaned.replace("<redacted:s0>", "\0")  # a secret may be a word of the marker
    assert cleaned_bytes.decode() == cleaned


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@given(
    value=st.binary(min_size=8, max_size=24).filter(lambda value: len(value.rstrip(b"\r\n")) >= 8),
    before=st.binary(max_size=6),
    after=st.binary(max_size=6),
)
def test_base64_is_found_at_every_alignment(
    encode: Callable[[bytes], bytes], value: bytes, before: bytes, after: bytes
) -> None:
    """RR-78: base64 of a text that holds a secret shows at most the characters that are shared with its neighbours."""
    value = value.rstrip(b"\r\n")
    whole = encode(before + value + after)

    cleaned = redactor(value).redact_bytes(whole)

    first, last = len(before) * 8 // 6, -(-8 * (len(before) + len(value)) // 6)
    kept_before, _, kept_after = cleaned.partition(b"<redacted:s0>")
    assert whole.startswith(kept_before)
    assert len(kept_before) <= first + 1
    assert len(whole) - len(kept_after) >= last - 1


def test_lines_of_a_secret_are_secrets() -> None:
    """RR-78: each line of at least 8 bytes of a secret with several is found alone; a shorter one is not."""
    key = "-----BEGIN KEY-----\r\nMIIEvQIBADANBg\r\nshort\r\nkqhkiG9w0BAQE\r\n-----END KEY-----\r\n"

    cleaned = redactor(key).redact_text("a MIIEvQIBADANBg b kqhkiG9w0BAQE c short d")

    assert cleaned == "a <redacted:s0> b <redacted:s0> c short d"
    assert redactor(key).redact_text(key) == "<redacted:s0>\r\n"


def test_a_plain_secret_has_few_forms() -> None:
    """RR-86: what encoders leave alone is searched once: 20 secrets are about 80 needles."""
    assert len(forms_of(b"ghp0123456789abcdefghijklmnopqrstuvw")) == 4
    assert all(len(form) >= 8 for form in forms_of(AWKWARD.encode()))


@given(
    values=st.lists(st.text("ab", min_size=8, max_size=12), min_size=1, max_size=4), text=st.text("abc", max_size=60)
)
def test_overlapping_secrets_leave_no_fragment(values: list[str], text: str) -> None:
    """RR-77: every character that belongs to any occurrence of any secret is taken out, and no other."""
    covered = [False] * len(text)
    for value in values:
        for at in range(len(text)):
            if text.startswith(value, at):
                covered[at : at + len(value)] = [True] * len(value)
    kept = "".join(" " if is_covered else character for character, is_covered in zip(text, covered, strict=True))

    cleaned = redactor(*values).redact_text(text)

    pieces = cleaned.replace("<", " <").replace(">", "> ").split()
    assert [piece for piece in pieces if not piece.startswith("<")] == kept.split()


def test_a_span_is_replaced_once_with_all_names() -> None:
    """RR-77: secrets that overlap or touch become one marker, their names in order."""
    made = Redactor(
        [Secret("12345678abcd", name="zeta"), Secret("abcdefgh", name="alpha"), Secret("XXXXXXXX", name="x")]
    )

    assert made.redact_text("12345678abcdefgh") == "<redacted:alpha,zeta>"
    assert made.redact_text("abcdefghXXXXXXXX!") == "<redacted:alpha,x>!"
    assert made.statistics().replaced_count == 2


def test_a_marker_is_never_rewritten() -> None:
    """RR-77: a secret whose value is in a marker, or reaches into one, leaves the marker alone."""
    made = Redactor(
        [Secret("redacted", name="word"), Secret(">suffix12", name="tail"), Secret("firstsecret", name="s")]
    )

    cleaned = made.redact_text("firstsecretsuffix12")

    assert cleaned == "<redacted:s>suffix12"
    assert made.redact_text(cleaned) == cleaned
    assert made.redact_text("not redacted here") == "not <redacted:word> here"


def test_what_only_looks_like_a_marker_hides_nothing() -> None:
    """RR-77: a marker has known names in order; anything else is a text like others."""
    made = redactor("hunter2-hunter2", "other-secret")

    assert made.redact_text("<redacted:hunter2-hunter2>") == "<redacted:<redacted:s0>>"
    assert made.redact_text("<redacted:s1,s0,hunter2-hunter2>") == "<redacted:s1,s0,<redacted:s0>>"


def test_a_secret_with_a_marker_is_refused() -> None:
    """RR-77: what was copied out of a record is no secret; the error names it."""
    with pytest.raises(ValueError, match="'s0' holds a marker"):
        redactor("https://<redacted:x>@host")


@given(
    values=st.lists(VALUES, min_size=1, max_size=3),
    parts=st.lists(
        st.sampled_from([*range(3), "--password ", "token=", "Authorization: ", "x://u:", "@h", '"', " ", "\n", ">"])
        | AROUND
    ),
)
def test_twice_is_once(values: list[str], parts: list[int | str]) -> None:
    """RR-77: what was redacted stays as it is, with all rules on."""
    made = redactor(*values, rules=RedactionRules(patterns={"digits": r"\d{4,}"}))
    text = "".join(values[part % len(values)] if isinstance(part, int) else part for part in parts)

    once = made.redact_text(text)
    words = made.redact_argv(text.split(" "))

    assert made.redact_text(once) == once
    assert made.redact_argv(words) == words
    assert made.redact_bytes(made.redact_bytes(text.encode())) == made.redact_bytes(text.encode())


def test_a_value_that_repeats_itself_takes_linear_time() -> None:
    """RR-77: a secret that overlaps itself at every byte is one span, however long."""
    assert redactor("a" * 8).redact_text("a" * 1_000_000) == "<redacted:s0>"
    assert redactor("ab" * 5).redact_text("ab" * 500_000 + "a") == "<redacted:s0>a"


@given(needle=st.text("ab", min_size=1, max_size=6), text=st.text("ab", max_size=40))
def test_every_occurrence_is_found(needle: str, text: str) -> None:
    """RR-77, RR-86: plain searches find what a look at every place finds."""
    expected = {at + k for at in range(len(text)) if text.startswith(needle, at) for k in range(len(needle))}

    assert {at for start, stop in Needle(needle, frozenset()).runs(text) for at in range(start, stop)} == expected


@given(
    value=st.binary(min_size=8, max_size=12),
    missing=st.sets(st.integers(0, 255), max_size=200),
    at=st.integers(0, 5000),
)
def test_a_look_at_the_letters_rules_no_secret_out(value: bytes, missing: set[int], at: int) -> None:
    """RR-86: long texts are searched only for what can be in them, and every secret in them is found."""
    value = value.rstrip(b"\r\n") + b"12345678"
    text = bytes(letter for letter in bytes(range(256)) * 20 if letter not in missing)

    cleaned = redactor(value, b"never-in-there").redact_bytes(text[:at] + value + text[at:])

    assert value not in cleaned
    assert b"<redacted:s0>" in cleaned


def test_short_secrets_are_replaced_only_as_a_whole() -> None:
    """RR-82: a short secret is a whole argument, an option's value or a variable's; nowhere else is it searched."""
    with pytest.warns(ShortSecretWarning):
        made = redactor("1234\n")

    assert made.redact_argv(["tool", "1234", "--pin=1234", "PIN=1234", "x1234", "--pin=12345"]) == [
        "tool",
        "<redacted:s0>",
        "--pin=<redacted:s0>",
        "PIN=<redacted:s0>",
        "x1234",
        "--pin=12345",
    ]
    assert made.redact_variables({"A": "1234", "B": "12341234"}) == {"A": "<redacted:s0>", "B": "12341234"}
    assert made.redact_text("1234") == "1234"
    assert made.redact_bytes(b"1234") == b"1234"


def test_the_warning_names_the_secret_and_nothing_else() -> None:
    """RR-82: neither the value nor its length is in the warning."""
    with pytest.warns(ShortSecretWarning) as caught:
        redactor("q7z")

    message = str(caught[0].message)
    assert "'s0'" in message
    assert "q7z" not in message
    assert not any(character.isdigit() for character in message.replace("'s0'", ""))
    assert caught[0].filename == __file__


def test_a_secret_counts_from_when_it_is_added() -> None:
    """RR-83: a secret can be added at any time, also another value under the same name."""
    made = redactor("first-secret")
    assert made.redact_text("second-secret") == "second-secret"

    made.add(Secret("second-secret", name="s0"))
    made.add(Secret("second-secret", name="s0"))

    assert made.redact_text("first-secret, second-secret") == "<redacted:s0>, <redacted:s0>"
    assert made.statistics().secret_count == 2


def test_one_value_with_two_names() -> None:
    """RR-77: both names are in the marker."""
    assert redactor("the-same-value", "the-same-value").redact_text("the-same-value") == "<redacted:s0,s1>"


@given(words=st.lists(st.binary(max_size=12)), value=st.binary(min_size=8, max_size=12), at=st.integers(0, 3))
def test_arguments_that_are_no_text(words: list[bytes], value: bytes, at: int) -> None:
    """RR-76: arguments of any bytes come out as bytes without the secret, and as many as went in."""
    value = value.rstrip(b"\r\n") + b"12345678"
    words = [word.replace(b"<", b"") for word in words]
    words.insert(at, b"".join((*words[:1], value, *words[:1])))

    cleaned = redactor(value).redact_argv([os.fsdecode(word) for word in words])

    assert len(cleaned) == len(words)
    assert all(value not in os.fsencode(word) for word in cleaned)
    assert any("<redacted:s0>" in word for word in cleaned)


def test_bytes_that_were_read_as_another_character() -> None:
    """RR-76: a secret of bytes is found where its first byte was read as the end of a character."""
    word = os.fsdecode(b"\xff \xc3\xa412345678 x")

    assert redactor(b"\xa412345678").redact_text(word) == "\udcff <redacted:s0> x"


def test_half_a_character_is_no_error() -> None:
    """RR-76: a text that no bytes stand for is redacted like others."""
    assert redactor("hunter2-hunter2").redact_text("\ud800hunter2-hunter2") == "\ud800<redacted:s0>"


CANARY = AWKWARD


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_a_canary_survives_in_no_place(encode: Callable[[str], str]) -> None:
    """RR-76: in arguments, a script, variables, a directory, output, a message, a note and its keys nothing of it is left."""
    made = redactor(CANARY, rules=RedactionRules())
    form = encode(CANARY)
    nested: Json = {"key": [form, {form: form}], "number": 1, "none": None}

    shown = "\n".join(
        (
            *made.redact_argv(["tool", form, f"--x={form}", f"-H{form}"]),
            made.redact_text(f"echo {form} | cat"),
            *made.redact_variables({"X": form, form: "1"}),
            *made.redact_variables({"X": form, form: "1"}).values(),
            made.redact_text(f"/srv/{form}/x"),
            made.redact_bytes(form.encode()).decode(),
            made.redact_text(f"cannot log in with {form}"),
            json.dumps(made.redact_json(nested), ensure_ascii=False),
        )
    )

    assert all(known.decode() not in shown for known in forms_of(CANARY.encode()))
    assert all(known.decode() not in json.loads(json.dumps(shown)) for known in forms_of(CANARY.encode()))
    assert shown.count("<redacted:s0>") == 12


def test_nothing_shows_the_values() -> None:
    """RR-84: the redactor, its table and its stream show no value."""
    made = redactor("hunter2-hunter2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.add(Secret("q7z", name="short"))

    shown = repr((made, made._table, made._table.in_bytes, made.stream(), made.statistics()))

    assert "hunter2" not in shown
    assert "q7z" not in shown


@given(
    words=st.lists(st.text("ab1-_=:@/ \"'tokenpasurl<>redc", max_size=20), max_size=5),
    value=st.sampled_from(["abab1abab", "tok"]),
)
def test_what_is_left_alone_would_have_stayed(words: list[str], value: str) -> None:
    """RR-77: a look at all texts together never misses what a look at each would have taken out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShortSecretWarning)
        made = redactor(value, rules=RedactionRules())

    if made.leaves_alone(words):
        assert made.redact_argv(words) == words
        assert [made.redact_text(word) for word in words] == words
    else:
        assert made.leaves_alone([]) is True


def test_a_finalizer_may_redact_in_the_middle_of_anything() -> None:
    """RR-15: the end of a call that a finalizer tells while a secret is added, or a part is counted, does not block the thread."""
    known = Redactor([Secret("correct-horse-battery", name="first")])
    cleaned: list[str] = []

    class Dropped:
        def __del__(self) -> None:
            cleaned.append(known.redact_text("a correct-horse-battery b"))

    def secrets() -> Iterator[Secret[str]]:
        dropped = Dropped()
        del dropped  # the garbage collector may come at any moment
        yield Secret("second-horse-battery", name="second")

    thread = threading.Thread(target=lambda: known._add(secrets()), daemon=True)
    thread.start()
    thread.join(10)

    assert cleaned == ["a <redacted:first> b"]
    assert not thread.is_alive()
