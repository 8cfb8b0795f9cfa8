"""The places of the data, the socket and the secret, and the access to them."""

import fcntl
import os
from pathlib import Path

import pytest

from ticketing.embedded.account import Account
from ticketing.embedded.data import InUse, default_data_dir, locked, secret, socket_folder
from ticketing.errors import StartupError


@pytest.mark.usefixtures("_as_stranger")
def test_data_go_where_the_account_can_reach_them(open_dir: Path, closed_dir: Path) -> None:
    assert default_data_dir(open_dir / "data") == open_dir / "data"
    elsewhere = default_data_dir(closed_dir / "data")
    assert elsewhere.parent == Path("/var/lib/ticketing")
    assert elsewhere.name.startswith("ticketing-")
    namesake = closed_dir.parent / "other" / "ticketing"
    assert default_data_dir(namesake / "data") != elsewhere


def test_a_socket_too_deep_for_its_path_goes_to_a_short_one(open_dir: Path) -> None:
    mine = Account(os.geteuid(), os.getegid(), {})
    with socket_folder(open_dir, mine) as beside:
        assert beside == open_dir / "sockets"
        assert beside.stat().st_mode & 0o777 == 0o700
    deep = open_dir / ("x" * 100)
    with socket_folder(deep, mine) as short:
        assert len(str(short)) < 60
        assert short.stat().st_mode & 0o777 == 0o700
    assert not short.exists()


def test_a_lock_whose_file_was_removed_is_not_held(open_dir: Path) -> None:
    lock = open_dir / "lock"

    def removed(*_: object) -> None:
        lock.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", removed)
        with pytest.raises(InUse, match="try again"), locked(open_dir):
            pass
    with locked(open_dir):
        assert lock.exists()


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(open_dir: Path) -> None:
    made = secret(open_dir)
    assert len(made) >= 32
    assert (open_dir / "jwt_secret").stat().st_mode & 0o777 == 0o600
    assert secret(open_dir) == made
    (open_dir / "jwt_secret").write_text("half")
    with pytest.raises(StartupError, match="damaged"):
        secret(open_dir)
