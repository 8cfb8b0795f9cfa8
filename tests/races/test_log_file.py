"""The log of several workers, while it is rotated."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.serving import PATIENCE

pytestmark = pytest.mark.usefixtures("unmeasured")

WRITERS = 4
ROTATIONS = 5

# Writes numbered lines of all lengths until its input ends, then says how many.
WRITER = """
import select, sys
from pathlib import Path
from ticketing.ops import logs

logs.configure(Path(sys.argv[2]), "INFO")
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    logs.log.info("written", writer=sys.argv[1], number=number, filling="x" * (number % 9000))
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


def test_four_processes_lose_no_line_and_tear_none_while_the_file_is_rotated(
    tmp_path: Path, writers: list[subprocess.Popen[str]]
) -> None:
    log = tmp_path / "combined.log"
    everybody = {str(writer) for writer in range(WRITERS)}
    deadline = time.monotonic() + PATIENCE
    for rotation in range(ROTATIONS):
        # Each of them has to have found the new file before it goes the way of the last.
        while not log.exists() or not everybody <= {line["writer"] for line in parsed(log)}:
            assert time.monotonic() < deadline
            assert all(writer.poll() is None for writer in writers)
            time.sleep(0.01)
        log.rename(tmp_path / f"combined.log.{rotation}")
    counts = [int(writer.communicate()[0]) for writer in writers]

    found = Counter(
        (line["writer"], line["number"])
        for file in tmp_path.glob("combined.log*")
        for line in parsed(file)
    )
    assert set(found.values()) == {1}
    assert set(found) == {
        (str(writer), number) for writer, count in enumerate(counts) for number in range(count)
    }


def parsed(file: Path) -> list[dict[str, object]]:
    # The last line may be under way; any other must be whole.
    *whole, rest = file.read_bytes().split(b"\n")
    assert rest == b"" or file.name == "combined.log"
    return [json.loads(line) for line in whole]
