"""The previous version of the service, from the history of the repository."""

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
MIGRATIONS: Final = "alembic/versions"
LOOKED_AT: Final = 1000
"""Number of commits to search, from the newest one backwards."""


@dataclass(frozen=True, slots=True)
class Version:
    """A commit with fewer migrations than the checkout."""

    commit: str
    date: str
    newest: str
    """The file of its newest migration."""
    behind: int
    """Number of migrations that it lacks."""

    def told(self) -> str:
        """Describe it in words."""
        return f"{self.commit[:7]} of {self.date}, at {self.newest}, {self.behind} behind"

    def unpack(self, folder: Path) -> Path:
        """Write it to a folder, and return the PYTHONPATH to run it."""
        archive = _git("archive", "--format=tar", self.commit, "src", "alembic")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            # As an attribute, because the first releases of Python 3.11 have no argument for it.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder)  # noqa: S202 - our own history
        return folder / "src"


@cache
def earlier() -> Version | None:
    """Return the newest of the commits with the most of today's migrations, but not all of them.

    Its migrations have the names of today's, so that today's can continue from its database: what a
    migration does never changes, only how it is described. None if the checkout has no such
    history.
    """
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return None
    today = sorted(file.name for file in (ROOT / MIGRATIONS).glob("*.py"))
    commits = _git("log", f"--max-count={LOOKED_AT}", "--format=%H %cs").decode().splitlines()
    best: Version | None = None
    for line, tree in zip(commits, _trees(commits), strict=True):
        commit, date = line.split()
        known = _migrations(tree)
        behind = len(today) - len(known)
        is_older = known and behind > 0 and known == today[: len(known)]
        if is_older and (best is None or behind < best.behind):
            best = Version(commit, date, known[-1], behind)
    return best


def _trees(commits: list[str]) -> list[str]:
    """Return what git says about the folder of the migrations in each commit, by one process."""
    asked = "".join(f"{line.split()[0]}:{MIGRATIONS}\n" for line in commits)
    return _git("cat-file", "--batch-check", given=asked.encode()).decode().splitlines()


@cache
def _migrations(tree: str) -> list[str]:
    name, kind, *_ = tree.split()
    if kind != "tree":
        return []
    return sorted(
        file for file in _git("ls-tree", "--name-only", name).decode().split() if file[-3:] == ".py"
    )


def _git(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever is first
        cwd=ROOT,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    ).stdout
