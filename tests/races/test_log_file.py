"""The log of several workers, while it is rotated."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.serving import PATIENCE

pytestmark = pytest.mark.usefixtures("unmeasured")

RULES = Path(__file__).parents[2] / "deploy" / "logrotate.conf"
WRITERS = 4
ROTATIONS = 5

# Writes numbered lines of all lengths, 20 at once, until its input ends. Then it prints how many.
WRITER = """
import select, sys
from pathlib import Path
from ticketing.ops import logs
from ticketing.settings import Settings

logs.configure(Settings(_env_file=None, log_dir=Path(sys.argv[2])))
number = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    for _ in range(20):
        filling = "x" * (number * 7 % 9000)
        logs.log.info("written", writer=sys.argv[1], number=number, filling=filling)
        number += 1
print(number)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, str(writer), str(tmp_path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for writer in range(WRITERS)
        ]
        yield started
        for each in started:
            each.kill()


@pytest.fixture
def logrotate(tmp_path: Path) -> Callable[[], None]:
    """Rotates the log with the file in `deploy/`."""
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        message = "this test needs logrotate: apt-get install logrotate"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    folder = tmp_path / "rotating"
    folder.mkdir()
    rules = folder / "logrotate.conf"
    rules.write_text(RULES.read_text().replace("/var/log/ticketing/", f"{tmp_path}/"))
    command = [program, "--force", "--state", str(folder / "state"), str(rules)]

    def rotate() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    return rotate


def test_four_processes_lose_no_line_while_logrotate_rotates_and_compresses(
    tmp_path: Path, writers: list[subprocess.Popen[str]], logrotate: Callable[[], None]
) -> None:
    for _ in range(ROTATIONS):
        await_everybody(tmp_path / "combined.log", writers)
        logrotate()
    lose_no_line(tmp_path, writers)
    compressed = sorted(path.name for path in tmp_path.glob("*.gz"))
    assert compressed == [f"combined.log.{number}.gz" for number in range(2, ROTATIONS + 1)]


def test_four_processes_lose_no_line_and_tear_none_while_the_file_is_rotated(
    tmp_path: Path, writers: list[subprocess.Popen[str]]
) -> None:
    log = tmp_path / "combined.log"
    for rotation in range(ROTATIONS):
        await_everybody(log, writers)
        log.rename(tmp_path / f"combined.log.{rotation}")
    lose_no_line(tmp_path, writers)


def await_everybody(log: Path, writers: list[subprocess.Popen[str]]) -> None:
    """Wait until each process uses the new file, before it is rotated too."""
    deadline = time.monotonic() + PATIENCE
    everybody = {str(writer) for writer in range(WRITERS)}
    while not log.exists() or not everybody <= {line["writer"] for line in parsed(log)}:
        assert time.monotonic() < deadline
        assert all(writer.poll() is None for writer in writers)
        time.sleep(0.05)


def lose_no_line(folder: Path, writers: list[subprocess.Popen[str]]) -> None:
    """Stop the processes, and check every line that they have written."""
    counts = [int(writer.communicate()[0]) for writer in writers]
    found = Counter(
        (line["writer"], line["number"])
        for file in folder.glob("combined.log*")
        for line in parsed(file)
    )
    assert set(found.values()) == {1}
    assert set(found) == {
        (str(writer), number) for writer, count in enumerate(counts) for number in range(count)
    }


def parsed(file: Path) -> list[dict[str, object]]:
    content = file.read_bytes()
    # The last line may be incomplete, no other.
    *whole, rest = (gzip.decompress(content) if file.suffix == ".gz" else content).split(b"\n")
    assert rest == b"" or file.name == "combined.log"
    return [json.loads(line) for line in whole]
