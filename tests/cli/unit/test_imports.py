"""Imports inside of a function run while the handlers of signals are set."""

import ast
from collections.abc import Iterator
from pathlib import Path

import ticketing.cli

CLI = sorted(Path(ticketing.cli.__file__).parent.glob("*.py"))


def unheld(tree: ast.AST) -> Iterator[int]:
    """Return the lines of imports inside of functions that are not in a `with held():`."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            held = {
                id(each)
                for block in ast.walk(function)
                if isinstance(block, ast.With)
                and any(ast.unparse(item.context_expr) == "held()" for item in block.items)
                for each in ast.walk(block)
            }
            for each in ast.walk(function):
                if isinstance(each, ast.Import | ast.ImportFrom) and id(each) not in held:
                    yield each.lineno


def test_a_signal_ends_no_command_in_the_midst_of_an_import() -> None:
    assert list(unheld(ast.parse("def f():\n    import one\n    with held():\n        import two")))
    found = {path.name: list(unheld(ast.parse(path.read_text()))) for path in CLI}
    assert not {name: lines for name, lines in found.items() if lines}
