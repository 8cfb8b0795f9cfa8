"""The unit for systemd is one, and fits how the service stops."""

import os
import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Final

import pytest

from ticketing.settings import Settings

UNIT: Final = Path(__file__).parents[2] / "deploy" / "ticketing.service"
COMMAND: Final = "/opt/ticketing/bin/ticketing"
STOPPING: Final = 50
"""Seconds that a stop may take besides the drain."""
EXPOSURE: Final = 20
"""The exposure of `systemd-analyze security`, in tenths. A service without limits has 96."""


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("systemd-analyze")
    if program is None:
        message = "this needs systemd-analyze, of Debian's package systemd"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def installed(folder: Path, text: str) -> Path:
    """Return the unit as a file whose command exists, as the check requires."""
    assert f"ExecStart={COMMAND} serve\n" in text
    unit = folder / UNIT.name
    unit.write_text(text.replace(COMMAND, shutil.which("true") or ""))
    return unit


def test_systemd_accepts_the_unit_without_a_warning(tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", installed(tmp_path, UNIT.read_text()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_check_sees_what_is_wrong(tmp_path: Path) -> None:
    wrong = UNIT.read_text().replace("\nNoNewPrivileges=", "\nNoNewPrivilege=")
    done = analyze("verify", "--man=no", installed(tmp_path, wrong))
    assert "'NoNewPrivilege'" in done.stderr


def test_the_unit_leaves_little_open(tmp_path: Path) -> None:
    unit = installed(tmp_path, UNIT.read_text())
    done = analyze("security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout


def test_the_unit_has_enough_time_to_stop_and_reloads_by_the_signal_of_a_restart() -> None:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    drain = Settings.model_fields["drain"].default
    assert service.getint("TimeoutStopSec") >= drain + STOPPING
    assert service["Type"] == "exec"
    assert service["KillMode"] == "mixed"
    program, signal, whom = service["ExecReload"].split()
    assert (signal, whom) == ("-HUP", "$MAINPID")
    assert os.access(program, os.X_OK)
    # The service may write where it needs to.
    (log_dir,) = re.findall(r"^TICKETING_LOG_DIR=(.*)", service["Environment"])
    assert log_dir == f"/var/log/{service['LogsDirectory']}"
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
