"""`ticketing serve` as a separate process, as an operator runs it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.people import Visitor

LISTENING = "  listening  "
UP = "Application startup complete."
"""The line that each worker prints."""
TICKETING = (sys.executable, "-m", "ticketing")
# If the tests are killed, their services are too, if the machine has Linux's setpriv.
TOGETHER = ("setpriv", "--pdeathsig", "INT") if shutil.which("setpriv") else ()
COVERAGE = "COVERAGE_PROCESS_CONFIG"
UNMEASURED = {COVERAGE: ""}
"""The environment of a service without coverage, which starts in half the time."""
PATIENCE = 60.0
"""Seconds in which the service must start, and stop."""

# Making one takes longer than a request.
_client = httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    process: subprocess.Popen[str]
    console: Path
    """The standard error so far."""

    def stop(self) -> int:
        """Interrupt the service as Ctrl-C does, and return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(
    cwd: Path,
    *arguments: str,
    command: Sequence[str | Path] = TICKETING,
    **environment: str,
) -> Iterator[Service]:
    """Run `ticketing serve` in `cwd`, on a free port unless `arguments` name one.

    It responds when this yields, and has ended, with all its workers, when this returns. The body
    may stop or kill it earlier. Raises AssertionError with its output if it does not start.
    """
    console = cwd / "console.txt"
    inherited = dict(os.environ)
    if environment.get(COVERAGE) == "":
        inherited.pop(COVERAGE, None)
        del environment[COVERAGE]
    with (
        console.open("ab") as errors,
        subprocess.Popen(
            [*TOGETHER, *command, "serve", "--port", "0", *arguments],
            cwd=cwd,
            env={
                **inherited,
                "TICKETING_BCRYPT_ROUNDS": "4",
                "TICKETING_DRAIN": "0",
                "TICKETING_RATE_LIMITS": "off",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            service = Service(_address(process, console), process, console)
            # The socket listens before the worker is ready. The response comes when it is.
            _client.get(service.url + "/livez").raise_for_status()
            yield service
            if process.poll() is None:
                service.stop()
        finally:
            # The whole session, so that no process remains, also if the body killed the parent.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    """Return the events of one kind that the service in `folder` has logged."""
    # The last line may be incomplete while the service writes.
    whole, _, _ = (folder / "logs" / "combined.log").read_bytes().rpartition(b"\n")
    if event.encode() not in whole:  # As in most looks, at megabytes under load.
        return []
    lines = (json.loads(line) for line in whole.splitlines() if event.encode() in line)
    return [line for line in lines if line["event"] == event]


def said(service: Service, what: str, *, times: int = 1) -> None:
    """Wait until the text is on the console."""
    deadline = time.monotonic() + PATIENCE
    while service.console.read_text().count(what) < times:
        assert time.monotonic() < deadline, f"it never said {what}"
        assert service.process.poll() is None, "it has ended"
        time.sleep(0.05)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)


def refusal(cwd: Path, *arguments: str, **environment: str) -> str:
    """Return the line with which `ticketing serve` refuses to start."""
    done = subprocess.run(
        [*TICKETING, "serve", "--port", "0", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("ticketing: ")


@asynccontextmanager
async def visiting(service: Service) -> AsyncIterator[Visitor]:
    async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
        yield Visitor(client)


def _address(process: subprocess.Popen[str], console: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(LISTENING):
            return line.removeprefix(LISTENING).strip()
    raise AssertionError(f"`ticketing serve` did not start: {console.read_text()}")
