"""What the documents name is there, and what there is they name."""

import ast
import re
from pathlib import Path

import pytest

from ticketing.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
SETTINGS = [PREFIX + name.upper() for name in Settings.model_fields]

# The image and the compose file know better, or there is nothing to choose in a container.
FIXED = {
    "TICKETING_DATABASE_URL",
    "TICKETING_MIGRATION_DATABASE_URL",
    "TICKETING_DATA_DIR",  # it has no database of its own
    "TICKETING_HOST",
    "TICKETING_PORT",  # published on another
    "TICKETING_LOG_DIR",
    "TICKETING_OTEL",  # the image is without its packages
}


def defined_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def files_named(name: str) -> list[Path]:
    return [path for path in TESTS if path.as_posix().endswith(f"/{name}")]


TESTS = {path: defined_in(path) for path in (ROOT / "tests").rglob("test_*.py")}
ROWS = [
    line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line[:1] == "|"
]


@pytest.mark.parametrize("row", ROWS)
def test_what_the_table_of_security_names_as_a_proof_is_one(row: str) -> None:
    for file in re.findall(r"`([\w/]*test_\w+\.py)`", row):
        assert files_named(file), file
    for name in re.findall(r"`(test_\w+)`", row):
        assert any(name in names for names in TESTS.values()), name
    for file, name in re.findall(r"`([\w/]*test_\w+\.py)`: `(test_\w+)`", row):
        assert any(name in TESTS[path] for path in files_named(file)), f"{file}: {name}"


def test_every_requirement_has_a_proof() -> None:
    requirements = [row for row in ROWS if not row.startswith(("| | requirement", "|---"))]
    assert len(requirements) > 40
    for row in requirements:
        *_, proof, _ = row.split("|")
        assert re.search(r"`test_|`tests/|the same|tests? of [\d.]+|`make |by hand", proof), row


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - FIXED))
def test_every_setting_that_is_left_to_the_operator_reaches_the_container(name: str) -> None:
    assert f"\n      {name}:" in (ROOT / "docker-compose.yml").read_text()
    assert re.search(rf"^#?{name}=", (ROOT / ".env.example").read_text(), re.MULTILINE)
