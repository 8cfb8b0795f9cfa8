"""The look of help: the same for every command, in groups, in colour on a terminal."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, Literal, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

from ticketing.ops.colour import BOLD, CYAN, has_colours, painted
from ticketing.settings import PREFIX, RateLimit, Settings

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
WHERE: Final = (
    "Each setting is an environment variable, or a line NAME=value in the file .env of the working"
    " folder. An option wins over its setting."
)
SPELT: Final = re.compile(r"`([^`]+)`")


def heading(text: str) -> str:
    """Return the text in the style of a heading."""
    return painted(text, BOLD) if has_colours(sys.stdout) else text


def name(text: str) -> str:
    """Return the text in the style of something to type."""
    return painted(text, CYAN) if has_colours(sys.stdout) else text


class _Help:
    """Shows options and commands under their headings (`rich_help_panel`)."""

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - private
        groups: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            if record := each.get_help_record(ctx):
                is_argument = each.param_type_name == "argument"
                panel = "Arguments" if is_argument else each.rich_help_panel or "Options"
                groups.setdefault(panel, []).append(record)
        # Options come last if there are commands.
        commands: dict[str, list[tuple[str, str]]] = {}
        for called, each in getattr(self, "commands", {}).items():
            panel = each.rich_help_panel or "Commands"
            commands.setdefault(panel, []).append((called, each.get_short_help_str(80)))
        for panel, rows in (commands | groups).items():
            with formatter.section(heading(panel)):
                formatter.write_dl([(name(called), told) for called, told in rows], col_max=40)


class Command(_Help, TyperCommand):
    """A command."""


class Group(_Help, TyperGroup):
    """A command with subcommands."""


class Serve(Command):
    """The command whose help lists every setting."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - private
        """Write the settings, in the order of their class."""
        with formatter.section(heading("Settings")):
            formatter.write_text(WHERE)
            formatter.write_paragraph()
            for variable, told in described():
                formatter.write_dl([(name(variable), told)], col_max=0)


def described() -> list[tuple[str, str]]:
    """Return the variable and the description of every setting, from its docstring."""
    (tree,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - for mypy, as those below
    found = []
    for field, docstring in pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(docstring, ast.Expr):
            assert isinstance(field.target, ast.Name)  # noqa: S101
            assert isinstance(docstring.value, ast.Constant)  # noqa: S101
            told = SPELT.sub(_as_shown, inspect.cleandoc(str(docstring.value.value)))
            values = "".join(f" [{each}]" for each in _values(field.target.id))
            found.append((_variable(field.target.id), told + values))
    return found


def _variable(field: str) -> str:
    return PREFIX + field.upper()


def _as_shown(found: re.Match[str]) -> str:
    return _variable(found[1]) if found[1] in Settings.model_fields else found[1]


def _values(name: str) -> Iterator[str]:
    """Yield the possible values, and the default."""
    field = Settings.model_fields[name]
    if get_origin(field.annotation) is Literal:
        yield " | ".join(get_args(field.annotation))
    default = field.default
    if isinstance(default, RateLimit):
        yield f"default: {default.quota}/{default.window}s"
    elif default not in {None, ()}:
        yield f"default: {default:g}" if isinstance(default, float) else f"default: {default}"
