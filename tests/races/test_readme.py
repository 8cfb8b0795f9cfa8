"""The commands of README and tutorial, run in a shell, print the output that the pages show."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.serving import Service, serving

pytestmark = pytest.mark.usefixtures("unmeasured")

ROOT = Path(__file__).parents[2]

CHANGES = {
    r'"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"': '"a uuid"',
    r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"': '"a time"',
    r'"tkt_[0-9a-f]{64}_[0-9a-f]{8}"': '"a key"',
    r'"[0-9a-f]{32}"': '"a request id"',
}
"""Patterns of values that differ between runs."""


def section_of_readme() -> str:
    return (ROOT / "README.md").read_text().split("## A first sale")[1].split("\n## ")[0]


def tutorial() -> str:
    return (ROOT / "docs" / "first-sale.md").read_text()


def walk(text: str) -> list[tuple[str, str]]:
    """Return the commands of a text in steps, each with its expected output."""
    steps: list[tuple[str, str]] = []
    commands = ""
    for kind, block in re.findall(r"```(sh|json|text)\n(.*?)```", text, re.DOTALL):
        if kind == "sh":
            commands += block
        else:
            steps.append((commands, block))
            commands = ""
    assert commands == "", "what the last commands print is not shown"
    return steps


def settled(printed: str) -> str:
    for pattern, name in CHANGES.items():
        printed = re.sub(pattern, name, printed)
    return printed


def printed_by(service: Service, steps: list[tuple[str, str]], cwd: Path) -> list[str]:
    script = "echo ----\n".join(commands for commands, _ in steps)
    done = subprocess.run(
        ["/bin/sh", "-eu"],
        input=script.replace("http://localhost:3000", service.url),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert done.stderr == ""
    return [settled(part) for part in done.stdout.split("----\n")]


def test_the_commands_print_what_the_pages_show_one_after_the_other(open_dir: Path) -> None:
    first, second = walk(section_of_readme()), walk(tutorial())
    assert (len(first), len(second)) == (3, 21)
    with serving(open_dir) as service:
        for steps in (first, second):
            printed = printed_by(service, steps, open_dir)
            assert printed == [settled(shown) for _, shown in steps]
            assert any("a uuid" in each for each in printed)
