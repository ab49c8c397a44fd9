"""What is public is listed, documented and used in a typed program."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FACADES = (
    "procflow",
    "procflow.adapters",
    "procflow.ready",
    "procflow.record",
    "procflow.record.exports",
    "procflow.record.logs",
    "procflow.record.redaction",
    "procflow.testing",
    "procflow_export",
)
ALIASES = {"procflow": "pf", "procflow.ready": "ready", "procflow.record": "record", "procflow_export": "pe"}


def public_names(facade: str) -> tuple[str, ...]:
    module = importlib.import_module(facade)
    assert isinstance(module.__all__, tuple)
    return module.__all__


@pytest.mark.parametrize("facade", FACADES)
def test_every_listed_name_exists_once(facade: str) -> None:
    names = public_names(facade)

    assert len(set(names)) == len(names)
    module = importlib.import_module(facade)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("facade", FACADES)
def test_everything_public_says_what_the_caller_gets(facade: str) -> None:
    module = importlib.import_module(facade)

    silent = [
        name
        for name in public_names(facade)
        if (inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value)) and not inspect.getdoc(value)
    ]
    assert not silent


@pytest.mark.parametrize("facade", FACADES)
def test_every_public_name_is_used_in_a_typed_program(facade: str) -> None:
    tree = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text("utf-8"))
    alias = ALIASES.get(facade)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == alias
    } | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

    assert set(public_names(facade)) - used == set()


@pytest.mark.parametrize("facade", FACADES)
def test_every_public_name_is_in_the_documentation(facade: str) -> None:
    pages = [page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md")]

    # A page made from the code shows every name that has a docstring; constants and aliases have none of their own.
    assert any(re.search(rf"^::: {re.escape(facade)}$", page, re.MULTILINE) for page in pages)
    module = importlib.import_module(facade)
    silent = [
        name
        for name in public_names(facade)
        if not (inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value))
    ]
    assert [name for name in silent if not any(re.search(rf"\b{name}\b", page) for page in pages)] == []


@pytest.mark.parametrize("facade", ["procflow", "procflow_export"])
def test_a_type_checker_may_trust_the_package(facade: str) -> None:
    assert (ROOT / "src" / facade / "py.typed").is_file()


def test_importing_the_core_loads_no_driver_and_no_second_event_loop() -> None:
    program = "import sys, procflow; print(*sorted(m for m in sys.modules if '.' not in m))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"trio", "uvloop", "pyarrow", "asyncpg", "aiomysql", "rich", "structlog", "procflow_export"} & set(
        loaded
    )
