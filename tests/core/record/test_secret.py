"""A value that shows itself as a mask."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from procflow.record.redaction import Secret

VALUE = "hunter2-hunter2"
SECRET = Secret(VALUE, name="db")


@pytest.mark.parametrize(
    "shown",
    [repr(SECRET), str(SECRET), f"{SECRET}", f"{SECRET!r}", f"{SECRET:>40}", "%s" % SECRET, "{}".format(SECRET)],  # noqa: UP031, UP032
)
def test_every_way_to_show_it_shows_the_mask(shown: str) -> None:
    """RR-84: `repr`, `str`, f-strings and formats give the name."""
    assert shown.strip() == "<redacted:db>"


def test_logging_and_tracebacks_show_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    """RR-84: a log record and a traceback with locals show the mask."""
    secret = SECRET
    try:
        raise ValueError(secret)
    except ValueError as exc:
        logging.getLogger("test").warning("failed with %s", secret, exc_info=exc)
        shown = traceback.TracebackException.from_exception(exc, capture_locals=True)

    assert "<redacted:db>" in caplog.text
    assert VALUE not in caplog.text
    assert "secret = <redacted:db>" in "".join(shown.format())
    assert VALUE not in "".join(shown.format()).replace("VALUE = ", "").replace(f"'{VALUE}'", "")


def test_only_reveal_gives_it_away() -> None:
    """RR-84: `reveal()` gives what was put in, of the same type."""
    assert SECRET.reveal() == VALUE
    assert Secret(b"\xff" * 9, name="b").reveal() == b"\xff" * 9
    assert Secret("p\udcffss", name="b").reveal_bytes() == b"p\xffss"


@pytest.mark.parametrize(
    "attempt",
    [
        pickle.dumps,
        json.dumps,
        lambda secret: secret.__getstate__(),
        lambda secret: "x" + secret,
        lambda secret: secret + "x",
        "".join,
        bytes,
        len,
        list,
        lambda secret: secret[0],
        lambda secret: setattr(secret, "name", "x"),
        lambda secret: delattr(secret, "_value"),
        vars,
    ],
)
def test_it_is_no_text_and_has_no_state(attempt: Callable[[object], object]) -> None:
    """RR-84: pickling and copying into a text are refused, by errors without the value."""
    with pytest.raises((TypeError, AttributeError)) as caught:
        attempt([SECRET] if attempt == "".join else SECRET)

    assert VALUE not in str(caught.value)


def test_a_copy_is_the_secret_itself() -> None:
    """RR-84: what holds a secret can be copied."""
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy([SECRET])[0] is SECRET


def test_equality_is_that_of_name_and_value() -> None:
    """RR-84: secrets can be members of values that are compared and hashed."""
    assert Secret(VALUE, name="db") == SECRET
    assert hash(Secret("other-value", name="db")) == hash(SECRET)
    assert Secret("other-value", name="db") != SECRET
    assert Secret(VALUE, name="other") != SECRET
    assert Secret(VALUE.encode(), name="db") != SECRET
    assert SECRET != VALUE


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("", "n"),
        ("\n", "n"),
        ("\ud800-unpaired", "n"),
        (VALUE, ""),
        (VALUE, "a,b"),
        (VALUE, "a>b"),
        (VALUE, "ä"),
        (VALUE, "x" * 65),
        (VALUE, f"my-{VALUE}"),
        ("db", "db"),
    ],
)
def test_what_can_be_no_secret(value: str, name: str) -> None:
    """RR-84: an empty value and a name that cannot stand in a marker are refused without showing the value."""
    with pytest.raises(ValueError, match="secret") as caught:
        Secret(value, name=name)

    assert caught.value.__cause__ is None
    assert VALUE not in str(caught.value)


def test_a_value_of_another_type_is_refused() -> None:
    """RR-84: a number is no secret; the error names the type alone."""
    with pytest.raises(TypeError, match="not int"):
        Secret(12345678, name="n")  # type: ignore[type-var]  # wrong on purpose
