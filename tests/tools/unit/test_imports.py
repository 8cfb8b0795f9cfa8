"""No module imports a module of tests, or a conftest. Only pytest loads those.

An import loads the module a second time, without pytest's reports of the values in an assert. It
also breaks if the test is moved. Shared code is in modules without tests, at the top of `tests/`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in ("tests", "chaos", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
}
"""Return the source of each module, by its path."""


def imported(source: str) -> Iterator[str]:
    """Yield the name of every module that the source imports, or may import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            # A name that is imported from a package may be a module.
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def of_pytest(source: str) -> list[str]:
    """Return the imported modules that only pytest may load."""
    return [
        name
        for name in imported(source)
        if (last := name.rpartition(".")[2]).startswith("test_") or last == "conftest"
    ]


def test_no_module_imports_a_test_or_a_conftest() -> None:
    found = {path: names for path, source in MODULES.items() if (names := of_pytest(source))}
    assert found == {}


def test_all_modules_are_checked() -> None:
    assert MODULES.keys() > {"tests/conftest.py", "chaos/checker.py", "benchmarks/run.py"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import tests.sale.unit.test_inventory", ["tests.sale.unit.test_inventory"]),
        ("import tests.conftest as shared", ["tests.conftest"]),
        ("from tests.conftest import settings", ["tests.conftest"]),
        ("from tests import conftest", ["conftest"]),
        ("from tests.sale.unit import test_inventory as other", ["test_inventory"]),
        ("from . import test_inventory", ["test_inventory"]),
        ("from .test_inventory import model", ["test_inventory"]),
        ("def late():\n    from tests.conftest import app", ["tests.conftest"]),
        ("from tests.test_people.shared import make", []),
        ("from tests.contract import assert_problem", []),
    ],
)
def test_an_import_of_a_test_is_seen_however_it_is_written(source: str, found: list[str]) -> None:
    assert of_pytest(source) == found
