"""Servers under test, and the kernel's data about their processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from benchmarks.ground import SECRET, CannotRunError, environment

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 60.0
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
ESTABLISHED: Final = "01"
LISTENING: Final = re.compile(r"\s+listening\s+http://\S+:(\d+)\s*")
"""The line in which a server prints its port."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    port: int
    pid: int
    workers: tuple[int, ...]
    """Process ids."""
    log_dir: Path

    def create(self, path: str, document: Mapping[str, object], token: str = "") -> Any:  # noqa: ANN401 - JSON
        """Send a POST, and return the response's body. Raises CannotRunError if it is not a 201."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("POST", path, json.dumps(document), headers)
            response = connection.getresponse()
            body = response.read()
        if response.status != HTTPStatus.CREATED:
            raise CannotRunError(f"{self.name}: POST {path}: {response.status} {body.decode()}")
        return json.loads(body)

    def connections(self) -> list[int]:
        """Count the established connections that each worker holds."""
        port = f":{self.port:04X}"
        mine = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(port) and fields[3] == ESTABLISHED:
                mine.add(f"socket:[{fields[9]}]")
        try:
            return [sum(link in mine for link in _links(pid)) for pid in self.workers]
        except FileNotFoundError as error:
            raise RuntimeError(f"a worker of {self.name} died") from error

    def cpu(self) -> list[float]:
        """Return the seconds of processor time that each worker has used."""
        return [cpu_seconds(pid) for pid in self.workers]

    def memory(self) -> list[float]:
        """Return the proportional set size of each worker in MiB."""
        return [_pss(pid) for pid in self.workers]

    def is_idle(self, seconds: float = 0.2) -> bool:
        """Whether the workers are idle for `seconds`."""
        before = sum(self.cpu())
        time.sleep(seconds)
        # Ten ticks per second would be 10% of a core. The supervisor's pings are far below.
        return sum(self.cpu()) - before <= 1.5 * TICK * len(self.workers)

    def wait_until_idle(self) -> None:
        """Wait until all requests under way are done. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while not self.is_idle():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not become idle")
        # Only writing the log matters; its contents do not.
        (self.log_dir / "combined.log").unlink(missing_ok=True)


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """Return the processor time of a process, and optionally of its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11 : 15 if with_children else 13])) * TICK


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def tree_cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and all its children, running or ended."""
    living = sum(cpu_seconds(child) for child in children(pid))
    return cpu_seconds(pid, with_children=True) + living


def machine_cpu_seconds() -> float:
    """Return the processor time that all programs on this machine have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) * TICK


def _links(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            yield str(entry.readlink())


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no Pss")


def _workers_of(pid: int) -> tuple[int, ...]:
    found = []
    for child in children(pid):
        with suppress(FileNotFoundError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return tuple(sorted(found))


def service_environment(
    database_url: str, folder: Path, *, workers: int, **more: str
) -> dict[str, str]:
    """Return the environment of a service under test, with a free port and logs in `folder`."""
    return environment(
        TICKETING_DATABASE_URL=database_url,
        TICKETING_JWT_SECRET=SECRET,
        TICKETING_PORT="0",
        TICKETING_WORKERS=str(workers),
        TICKETING_LOG_DIR=str(folder / f"logs-{time.monotonic_ns()}"),
        TICKETING_RATE_LIMITS="off",
        **more,
    )


@contextmanager
def serving(
    name: str, module: Sequence[str], variables: Mapping[str, str], cwd: Path
) -> Iterator[Server]:
    """Run a Python module with its arguments as a server until the context ends.

    `variables` are those of `service_environment`. Raises CannotRunError if it does not start.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=cwd,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The console's lines are written as in production, but not read.
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield _started(name, process, variables)
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        finally:
            # The whole session, because a worker may outlive a killed parent.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                while True:
                    os.killpg(process.pid, 0)
                    time.sleep(0.02)


def _port(process: subprocess.Popen[str]) -> int | None:
    for line in process.stdout or ():
        if found := LISTENING.fullmatch(line):
            return int(found[1])
    return None


def _started(name: str, process: subprocess.Popen[str], variables: Mapping[str, str]) -> Server:
    port = _port(process)
    if port is None:
        command = " ".join(map(str, process.args))  # type: ignore[arg-type]
        raise CannotRunError(f"{name} did not start: run `{command}` to see why")
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=PATIENCE).close()
            except urllib.error.HTTPError as error:
                error.close()
            break
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotRunError(f"{name} did not start")
        time.sleep(0.05)
    # The first worker responds, but the others may still be starting.
    workers = int(variables["TICKETING_WORKERS"])
    while len(found := _workers_of(process.pid)) < workers and time.monotonic() < deadline:
        time.sleep(0.05)
    server = Server(name, port, process.pid, found, Path(variables["TICKETING_LOG_DIR"]))
    server.wait_until_idle()
    return server
