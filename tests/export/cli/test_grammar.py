"""What may be typed, and how fast the answer to a simple question is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import procflow_export
from procflow_export.cli import grammar
from procflow_export.cli.grammar import EXIT_STATUSES, USAGE_STATUS, build_parser
from procflow_export.model import settings
from procflow_export.model.codes import Code, ExitStatus
from tests.export.cli.conftest import Shop


def test_help_tells_every_exit_status() -> None:
    """E-61: the table in --help is the enum of exit statuses."""
    assert [status for status, _ in EXIT_STATUSES] == [int(status) for status in ExitStatus]
    assert int(ExitStatus.USAGE) == USAGE_STATUS

    text = build_parser("0").format_help()
    page = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text()
    for status, meaning in EXIT_STATUSES:
        assert f"{status:>3}  {meaning}" in text
        assert f"| {status} | {meaning} |" in page


def test_every_option_is_documented() -> None:
    """E-60: the reference page names every command and every option."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text()
    for command in ("run", "check", "demo"):
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", subcommand_help(command))) - {"--help", "--output", "--rows"}
        assert options
        assert [option for option in options if f"`{option}" not in page] == []


def subcommand_help(command: str) -> str:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        build_parser("0").parse_args([command, "--help"])
    return out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["run", "--frobnicate"],
        ["run", "--processes", "0"],
        ["run", "--processes", "many"],
        ["run", "-p", "no-equals-sign"],
        ["run", "-q", "-v"],
        ["demo", "--rows", "3"],
        ["schema", "nothing"],
    ],
)
def test_a_wrong_command_line_exits_with_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """E-61: 2 means "run it again", so usage errors have a status of their own."""
    with pytest.raises(SystemExit) as caught:
        build_parser("0").parse_args(arguments)

    captured = capsys.readouterr()
    assert caught.value.code == 64
    assert captured.out == ""
    assert "usage:" in captured.err


def test_a_refused_parameter_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """E-2: what may be a secret is in no message."""
    with pytest.raises(SystemExit):
        build_parser("0").parse_args(["run", "-p", "hunter2"])

    assert "hunter2" not in capsys.readouterr().err


def test_the_worker_is_no_command_of_the_help() -> None:
    assert "worker" not in build_parser("0").format_help()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_simple_questions_load_nothing_heavy(shop: Shop, arguments: list[str]) -> None:
    """E-60: --help and --version answer at once: no event loop, no driver, no Arrow is imported for them."""
    heavy = {"anyio", "asyncio", "pyarrow", "numpy", "msgspec", "rich", "procflow", "asyncpg", "aiomysql"}
    script = (
        "import sys, runpy\nsys.argv[1:] = " + repr(arguments) + "\n"
        "from procflow_export.cli import main, start\n"
        "try: main.run(sys.argv[1:], start.take_over_process())\nexcept SystemExit as exc: print(exc.code, file=sys.stderr)\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", script], env=shop.env, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stderr.splitlines() == ["0", "[]"]
    assert done.stdout


def test_every_public_name_can_be_had() -> None:
    """The package imports its names when they are first used: each of them must be where it is said to be."""
    for name in procflow_export.__all__:
        assert getattr(procflow_export, name) is not None
    assert set(procflow_export.__all__) <= set(dir(procflow_export))
    with pytest.raises(AttributeError):
        getattr(procflow_export, "nonsense")  # noqa: B009 (what a misspelt import does)


def test_schemas_are_data_on_standard_output(shop: Shop) -> None:
    """E-61, E-62: the JSON Schema comes from the structs, the error codes from their enum."""
    config, errors = shop.run("schema"), shop.run("schema", "errors")

    assert (config.status, config.err) == (0, "")
    assert "$defs" in config.data
    assert [entry["code"] for entry in errors.data] == [code.value for code in Code]


def test_the_memory_of_the_command_line_is_that_of_the_configuration() -> None:
    """E-30: the bounds that `--memory` knows are those of `memory_mb`; less than a process needs is a usage error."""
    assert (grammar.DEFAULT_MEMORY_MB, grammar.MIN_MEMORY_MB) == (settings.DEFAULT_MEMORY_MB, settings.MIN_MEMORY_MB)
    parser = build_parser("0")

    assert parser.parse_args(["run", "--memory", "300"]).memory == 300
    assert parser.parse_args(["run"]).memory is None
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["run", "--memory", "127"])
    assert caught.value.code == grammar.USAGE_STATUS
