"""Generate clients from the OpenAPI document of a running service, and have each of them book."""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from tests.folders import folder_open_to_all
from tests.serving import serving

from clients.kinds import KINDS, Kind
from clients.tools import Command, FailedError, Tools, run

HERE: Final = Path(__file__).parent
BUILT: Final = HERE.parent / "build/clients"
PATIENCE: Final = 30.0
"""Seconds in which the mock server must start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the document, and then every kind of client, or only the given ones."""
    wanted: list[str] = _parser().parse_args(arguments).steps
    try:
        tools = Tools(BUILT / "tools")
    except FailedError as error:
        print(f"clients: {error}")
        return 2
    with folder_open_to_all() as folder, serving(folder) as service:
        document = BUILT / "openapi.json"
        document.write_bytes(httpx.get(f"{service.url}/openapi.json").content)
        steps: dict[str, Callable[[], None]] = {
            name: partial(check, tools, document) for name, check in CHECKS.items()
        }
        for name, kind in BY_NAME.items():
            steps[name] = partial(_run_client, kind, tools, document, service.url)
        return _take(steps, wanted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description=f"{__doc__} Installs the generators first, which takes minutes.",
    )
    parser.add_argument(
        "steps",
        nargs="*",
        metavar="STEP",
        type=_step,
        help=f"only these steps, of {', '.join(STEPS)}; default: all",
    )
    return parser


def _step(name: str) -> str:
    # Not by `choices`, which argparse compares with the whole list if that is empty.
    if name not in STEPS:
        raise argparse.ArgumentTypeError(f"there is no step {name}: use one of {', '.join(STEPS)}")
    return name


def _run_client(kind: Kind, tools: Tools, document: Path, url: str) -> None:
    kind(tools, document, _emptied(kind.__name__), url)


def _take(steps: dict[str, Callable[[], None]], wanted: list[str]) -> int:
    failed = 0
    for name, step in steps.items():
        if wanted and name not in wanted:
            continue
        began = time.monotonic()
        try:
            step()
        except FailedError as error:
            print(f"{name}: FAILED\n{error}", flush=True)
            failed += 1
        else:
            print(f"{name}: works ({time.monotonic() - began:.0f} s)", flush=True)
    return min(failed, 1)


def _emptied(name: str) -> Path:
    folder = BUILT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _spectral(tools: Tools, document: Path) -> None:
    rules: Command = ["--ruleset", HERE / "spectral.yaml", "--fail-severity", "hint"]
    run([tools.js("spectral"), "lint", *rules, document])


def _redocly(tools: Tools, document: Path) -> None:
    lint: Command = [tools.js("redocly"), "lint", "--config", HERE / "redocly.yaml"]
    said = run([*lint, "--format", "json", document])
    totals = json.loads(said[said.index("{") : said.rindex("}") + 1])["totals"]
    if totals["errors"] or totals["warnings"] or totals["ignored"]:
        raise FailedError(run([*lint, document]))


def _prism(tools: Tools, document: Path) -> None:
    """Check that the mock server has a last page and returns every outcome."""
    body = {"eventId": 1, "userId": "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"}
    with _mock(tools, document) as client:
        page = client.get("/api/events").json()
        if len(page["items"]) == 0 or page["nextCursor"] is not None:
            raise FailedError(f"a page of the mock server: {page}")
        for code, status in (("201", "booked"), ("202", "waiting")):
            prefer = {"Prefer": f"code={code}", "Authorization": "Bearer mock"}
            booking = client.post("/api/events/book", json=body, headers=prefer).json()
            if booking["status"] != status:
                raise FailedError(f"{code} of the mock server: {booking}")


@contextmanager
def _mock(tools: Tools, document: Path) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command: Command = [tools.js("prism"), "mock", "--port", str(port), document]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                _wait_for(client)
                yield client
        finally:
            process.terminate()


def _wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            client.get("/livez")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise FailedError("the mock server does not start")


CHECKS: Final = {"spectral": _spectral, "redocly": _redocly, "prism": _prism}
BY_NAME: Final = {kind.__name__: kind for kind in KINDS}
STEPS: Final = (*CHECKS, *BY_NAME)

if __name__ == "__main__":
    sys.exit(main())
