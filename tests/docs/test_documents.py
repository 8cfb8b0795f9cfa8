"""Everything that the documents name exists, and they name everything."""

import ast
import itertools
import re
from functools import cache
from pathlib import Path

import pytest

from ticketing.settings import PREFIX, RateLimit, Settings

ROOT = Path(__file__).parents[2]
SETTINGS = [PREFIX + name.upper() for name in Settings.model_fields]

REFERENCE = ROOT / "docs" / "reference" / "settings.md"

# The image and the compose file set these, or they make no sense in a container.
FIXED = {
    "TICKETING_DATABASE_URL",
    "TICKETING_POOLER",
    "TICKETING_MIGRATION_DATABASE_URL",
    "TICKETING_DATA_DIR",  # it has no database of its own
    "TICKETING_HOST",
    "TICKETING_PORT",  # published on another
    "TICKETING_LOG_DIR",
    "TICKETING_LOG_FILE",  # its console is the log
    "TICKETING_OTEL",  # the image does not have its packages
}


@cache
def defined_in(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))


def files_named(name: str) -> list[Path]:
    return [path for path in TESTS if path.as_posix().endswith(f"/{name}")]


TESTS = list((ROOT / "tests").rglob("test_*.py"))
ROWS = [
    line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line[:1] == "|"
]


@pytest.mark.parametrize("row", ROWS)
def test_every_proof_in_the_table_of_security_exists(row: str) -> None:
    for file in re.findall(r"`([\w/]*test_\w+\.py)`", row):
        assert files_named(file), file
    for name in re.findall(r"`(test_\w+)`", row):
        assert any(name in defined_in(path) for path in TESTS), name
    for file, name in re.findall(r"`([\w/]*test_\w+\.py)`: `(test_\w+)`", row):
        assert any(name in defined_in(path) for path in files_named(file)), f"{file}: {name}"


def test_every_requirement_has_a_proof() -> None:
    requirements = [row for row in ROWS if not row.startswith(("| | requirement", "|---"))]
    assert len(requirements) > 40
    for row in requirements:
        *_, proof, _ = row.split("|")
        assert re.search(r"`test_|`tests/|the same|tests? of [\d.]+|`make |by hand", proof), row


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_row_in_the_reference(name: str) -> None:
    rows = re.findall(r"^\| (`TICKETING_.*)", REFERENCE.read_text(), re.MULTILINE)
    (row,) = [row for row in rows if f"`{name}`" in row.partition(" | ")[0]] or [""]
    assert row, f"{REFERENCE} has no row for it"
    default = Settings.model_fields[name.removeprefix(PREFIX).lower()].default
    if isinstance(default, int | str | RateLimit) and name != "TICKETING_DATA_DIR":
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        if isinstance(default, RateLimit):
            shown = f"{default.quota}/{default.window}s"
        defaults = row.split(" | ")[1]
        assert re.search(rf"(?<![\w.]){re.escape(shown)}(?![\w.])", defaults), defaults


def test_every_setting_has_a_description() -> None:
    tree = ast.parse((ROOT / "src" / "ticketing" / "settings.py").read_text())
    (body,) = [
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    said = {
        before.target.id
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
    }
    assert Settings.model_fields.keys() - said == set()


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - FIXED))
def test_every_setting_that_is_left_to_the_operator_reaches_the_container(name: str) -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"\n      {name}:" in compose, "docker-compose.yml lacks it"
    example = (ROOT / ".env.example").read_text()
    assert re.search(rf"^#?{name}=", example, re.MULTILINE), ".env.example lacks it"
