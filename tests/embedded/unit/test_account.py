"""The account of the embedded PostgreSQL, and the folders that it can enter."""

import os
import pwd
from pathlib import Path

import pytest

from tests.strangers import STRANGER
from ticketing.embedded.account import Account
from ticketing.errors import StartupError


def test_an_account_reaches_folders_that_are_open_to_it(open_dir: Path, closed_dir: Path) -> None:
    mine = Account(os.geteuid(), os.getegid(), {"user": os.geteuid()})
    assert STRANGER.can_reach(open_dir / "data" / "not yet there")
    assert not STRANGER.can_reach(closed_dir / "data")
    assert mine.can_reach(closed_dir / "data")
    of_our_group = Account(54321, os.getegid(), {"user": 54321})
    assert not of_our_group.can_reach(closed_dir / "data")
    closed_dir.parent.chmod(0o710)
    assert of_our_group.can_reach(closed_dir / "data")
    assert Account(54321, 54321, {}).can_reach(closed_dir / "data"), "the service's own account"


def test_root_runs_the_server_as_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    nobody = pwd.getpwnam("nobody")
    known = {"nobody": nobody}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known[name])
    chosen = Account.choose()
    assert (chosen.uid, chosen.gid) == (nobody.pw_uid, nobody.pw_gid)
    assert chosen.popen == {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    known.clear()
    with pytest.raises(StartupError, match="create an account"):
        Account.choose()


def test_any_other_account_runs_the_server_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 4321)
    assert Account.choose() == Account(1234, 4321, {})
