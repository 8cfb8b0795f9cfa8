"""The README's walk, run as written in a shell, gives the answers that it shows."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.serving import serving

pytestmark = pytest.mark.usefixtures("unmeasured")

README = Path(__file__).parents[2] / "README.md"

CHANGES = {
    r'"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"': '"a uuid"',
    r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"': '"a time"',
}
"""What differs from run to run."""


def walk() -> list[tuple[str, str]]:
    """Return the commands of the section "A first booking", each with what it is to print."""
    section = README.read_text().split("## A first booking")[1].split("\n## ")[0]
    blocks = re.findall(r"```(sh|json)\n(.*?)```", section, re.DOTALL)
    steps: list[tuple[str, str]] = []
    for kind, text in blocks:
        if kind == "sh":
            steps.append((text, ""))
        else:
            steps[-1] = (steps[-1][0], text)
    return steps


def settled(answers: str) -> str:
    for pattern, name in CHANGES.items():
        answers = re.sub(pattern, name, answers)
    return answers


def test_the_walk_gives_the_answers_that_it_shows(open_dir: Path) -> None:
    steps = walk()
    assert len(steps) == 5
    with serving(open_dir) as service:
        script = "echo ----\n".join(commands for commands, _ in steps)
        script = script.replace("http://localhost:3000", service.url)
        done = subprocess.run(
            ["/bin/sh", "-eu"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            cwd=open_dir,
        )
    assert done.stderr == ""
    printed = [settled(part) for part in done.stdout.split("----\n")]
    assert printed == [settled(shown) for _, shown in steps]
    assert "a uuid" in printed[-1]
