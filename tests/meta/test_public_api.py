"""What is public is listed, documented and used in a typed program."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
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
LAZY = ("procflow.record", "procflow_export")
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


@pytest.mark.parametrize("facade", LAZY)
def test_a_lazy_name_comes_from_where_a_type_checker_sees_it(facade: str) -> None:
    module = importlib.import_module(facade)
    [block] = [
        node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.If) and _is_typing(node)
    ]
    seen = {(name.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}

    assert {(name, home) for name, home in module._HOME_OF.items()} == seen
    assert {name for name, _ in seen} == set(module.__all__)


@pytest.mark.parametrize("facade", LAZY)
def test_no_lazy_name_is_that_of_a_submodule(facade: str) -> None:
    """Importing a submodule sets its name on the package, and a lazy name would be found no more."""
    module = importlib.import_module(facade)

    assert {name for _, name, _ in pkgutil.iter_modules(module.__path__)} & set(module.__all__) == set()


@pytest.mark.parametrize(
    "needed", ["from procflow.record import Event, EventCodec, stamped", "import procflow.record.clocks"]
)
def test_who_needs_the_envelope_of_a_record_loads_no_reader(needed: str) -> None:
    program = (
        f"{needed}; import sys; print(*(m for m in sys.modules if m.startswith('procflow.record.') or m == 'sqlite3'))"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert set(loaded) <= {"procflow.record.envelope", "procflow.record.clocks"}


def _is_typing(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
