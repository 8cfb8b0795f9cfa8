"""The wheel, installed and run without a checkout."""

import asyncio
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx
import pytest

from tests.people import Visitor
from tests.serving import serving
from ticketing.db import revision

pytestmark = pytest.mark.usefixtures("unmeasured")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which also finds the installed dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    wheels, environment = folder / "wheels", folder / "50% off"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *build, "--wheel-dir", wheels, ROOT], check=True)
    venv.create(environment, symlinks=True)
    (wheel,) = wheels.iterdir()
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # Only the folder: it does not read the .pth file that leads to the checkout.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin" / "ticketing"


async def test_the_wheel_serves_in_an_empty_folder(installed: Path, open_dir: Path) -> None:
    folder = open_dir / "50% off, too"
    folder.mkdir()
    with serving(folder, command=[installed]) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            page = await client.get("/docs")
            assert page.status_code == 200
            (bundle,) = re.findall(r'src="([^"]*bundle[^"]*)"', page.text)
            script = await client.get(bundle)
            assert script.status_code == 200
            assert "javascript" in script.headers["content-type"]
            assert len(script.content) > 100_000
            person = await Visitor(client).register()
            assert (await person.get("/api/users/me")).json()["username"] == person.username
    assert service.process.returncode == 0
    assert {path.name for path in folder.iterdir()} == {"console.txt", "data", "logs"}


def run(installed: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [installed, "migrate", *arguments],
        cwd=installed.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def test_the_wheel_migrates_back_and_forth(installed: Path, database_url: str) -> None:
    database = {"TICKETING_DATABASE_URL": database_url}
    older, newest = revision.known()[-2:]
    said = run(installed, "--to", older, "--accept-data-loss", **database)
    assert said == f"Migrated the database from revision {newest} to {older}.\n"
    assert not await asyncio.to_thread(revision.is_newest, database_url)
    printed = run(installed, "--sql", **database)
    assert f"-- Running upgrade {older} -> {newest}\n" in printed
    said = run(installed, **database)
    assert said == f"Migrated the database from revision {older} to {newest}.\n"
    assert await asyncio.to_thread(revision.is_newest, database_url)


def test_the_wheel_has_the_script_of_the_services_role(installed: Path) -> None:
    script = ROOT / "src" / "ticketing" / "db" / "service_role.sql"
    assert run(installed, "--role-sql") == script.read_text()


def test_the_tests_run_the_wheel(installed: Path) -> None:
    program = "import ticketing; print(ticketing.__file__)"
    python = installed.with_name("python")
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(installed.parents[1])
    shown = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"ticketing \d+\.\d+\.\d+\n", shown.stdout)
