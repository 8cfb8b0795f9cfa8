"""The service under test and its database, as separate processes that faults may harm."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg
from chaos import processes
from chaos.client import Client, NotSent, Response, Unanswered
from chaos.cluster import Cluster
from chaos.network import Network
from chaos.proxy import Proxy
from chaos.receiver import Receiver
from chaos.versions import earlier

from ticketing.db import migrations
from ticketing.embedded.server import Embedded, embedded, url_of
from ticketing.settings import PREFIX

LISTENING: Final = "  listening  "
PATIENCE: Final = 60.0
WORKERS: Final = 2
SECRET: Final = "a secret of the harness, long enough for HS256"  # noqa: S105 - signs nothing real
PASSWORD: Final = "correct horse"  # noqa: S105 - of nobody
FAKETIME: Final = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
DISK: Final = 400
"""MiB of the database's disk, if the disk is to become full."""
DATABASE_ERRORS: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""Exceptions of a connection whose server is harmed."""
STREAK: Final = 3
"""Consecutive bookings, each on a new connection, that show that the service is healthy."""


@dataclass
class Person:
    """A person with an account."""

    name: str
    id: str = ""
    token: str = ""


Kind = Literal["embedded", "proxied", "earlier", "cluster", "hosts", "pooled"]
"""With the service's embedded database; with the harness's database behind a proxy; the same, but
first with the previous version of the service; two replicas of the service with a cluster behind
HAProxy; the same with all nodes in the URL; the same by way of PgBouncer and HAProxy."""


@dataclass(frozen=True, slots=True)
class Service:
    """A started service and its processes."""

    process: subprocess.Popen[str]
    port: int

    @property
    def workers(self) -> list[int]:
        """The ids of its workers."""
        found = processes.children(self.process.pid).items()
        return [pid for pid, command in found if "spawn_main" in command]


@dataclass
class Rig:
    """A running service, with an embedded database or the harness's database behind a proxy."""

    folder: Path
    environment: Mapping[str, str]
    started: ExitStack
    """Ends everything that was started."""
    services: list[Service]
    """Running services; more than one while one replaces another."""
    ports: list[int]
    """Ports for clients."""
    earlier: int | None
    """Ports of the previous version, past or present."""
    network: Network | None
    cluster: Path
    sockets: Path
    database: Embedded | None
    """The harness's database; None if the service runs its own."""
    proxy: Proxy | None
    clock: Path | None
    """Contains the error of the service's clock."""
    disk: Path | None
    """A separate file system for the database."""
    nodes: Cluster | None = None
    """The cluster, if that is the database."""
    receiver: Receiver | None = None
    """Gets the webhooks, if there are any."""

    @property
    def is_embedded(self) -> bool:
        """Whether the service runs the database itself."""
        return self.database is None

    @property
    def url(self) -> str:
        """The URL of the database, without the proxy."""
        return url_of(self.sockets) if self.nodes is None else self.nodes.url()

    @property
    def workers(self) -> list[int]:
        """The ids of the workers of all services."""
        return [pid for service in self.services for pid in service.workers]

    @property
    def postmaster(self) -> int | None:
        """The id of the database's server."""
        try:
            return int((self.cluster / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return None

    @property
    def backends(self) -> list[int]:
        """The ids of the database's processes that serve a connection."""
        server = self.postmaster
        found = processes.children(server).items() if server is not None else ()
        return [pid for pid, command in found if "[local]" in command and "postgres:" in command]

    def harm(self, pids: list[int], number: signal.Signals) -> int:
        """Send a signal to processes of the service or of its database."""
        # The harness's database is a descendant of this process, through its guard.
        return processes.send(pids, number, parent=os.getpid())

    def client(self, patience: float = 15.0) -> Client:
        """Return a client."""
        return Client(self.ports, patience=patience)

    def start(self, code: Path | None = None) -> Service:
        """Start a service, with other code if it is given. Raises RuntimeError."""
        environment = self.environment if code is None else of_code(code, self.environment)
        console = self.folder / f"console-{len(list(self.folder.glob('console-*')))}.txt"
        process = self.started.enter_context(_service(self.folder, environment, console))
        service = Service(process, _port(process, console))
        self.services.append(service)
        return service

    @property
    def logs(self) -> str:
        """What all services have logged, each after the name of its file."""
        return "".join(f"{each.name}\n{each.read_text(errors='replace')}" for each in self.consoles)

    @property
    def consoles(self) -> list[Path]:
        """The files with what services have logged."""
        return sorted(self.folder.glob("console-*"))

    async def be_told(self, owner: Person) -> None:
        """Have webhooks about all events of a person sent to the receiver."""
        if self.receiver is not None:
            url = await self.receiver.start()
            made = await self.ask("POST", "/api/webhooks", {"url": url}, owner.token)
            if made.status != 201:  # noqa: PLR2004 - HTTP
                raise RuntimeError(f"no webhook was made: {made.status} {made.body}")

    async def stop(self, service: Service, number: signal.Signals) -> int | None:
        """Stop a service, and return its exit status, or None if it does not stop."""
        self.services.remove(service)
        service.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(service.process.wait, PATIENCE)
        return None

    async def is_ready(self, service: Service) -> bool:
        """Whether a service is ready."""
        return await self._responds([service.port])

    async def is_reached(self) -> bool:
        """Whether clients reach a service that is ready."""
        return await self._responds(self.ports)

    async def _responds(self, ports: list[int]) -> bool:
        client = Client(ports, patience=5.0)
        try:
            return (await client.request("GET", "/readyz")).status == 200  # noqa: PLR2004 - HTTP
        except (NotSent, Unanswered):
            return False
        finally:
            client.close()

    async def migrate(self) -> str:
        """Migrate the database to the newest revision, and return what was wrong, if anything."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ticketing", "migrate"),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, complaint = await process.communicate()
        return complaint.decode() if process.returncode else ""

    async def keep_database_up(self) -> None:
        """Restart the harness's database each time it has died."""
        while True:
            if self.database is not None:
                self.database.keep_up()
            await asyncio.sleep(0.05)

    async def log_in(self, person: Person) -> None:
        """Get a new token, without a timeout."""

        async def logged_in() -> bool:
            client = self.client(5.0)
            try:
                answer = await client.request(
                    "POST",
                    "/api/users/login",
                    {"username": person.name, "password": PASSWORD},
                )
            except (NotSent, Unanswered):
                return False
            finally:
                client.close()
            if answer.status == 200:  # noqa: PLR2004 - HTTP
                person.id, person.token = answer.body["userId"], answer.body["token"]
            return answer.status == 200  # noqa: PLR2004

        await until(logged_in)

    async def register(self, names: list[str]) -> list[Person]:
        """Make accounts."""
        people = [Person(name) for name in names]
        limit = asyncio.Semaphore(8)

        async def one(person: Person) -> None:
            async with limit:
                credentials = {"username": person.name, "password": PASSWORD}
                await self.ask("POST", "/api/users/register", credentials)
                await self.log_in(person)

        await asyncio.gather(*map(one, people))
        return people

    async def ask(self, method: str, path: str, body: object = None, token: str = "") -> Response:
        """Send a request to a healthy service. Raises RuntimeError for a status from 500 up."""
        client = self.client()
        try:
            answer = await client.request(method, path, body, token=token)
        finally:
            client.close()
        if answer.status >= 500:  # noqa: PLR2004
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body}")
        return answer

    async def organise(self, person: Person, total: int) -> int:
        """Make an event."""
        made = await self.ask(
            "POST",
            "/api/events/initialize",
            {"name": "An event", "totalTickets": total},
            person.token,
        )
        if made.status != 201:  # noqa: PLR2004
            raise RuntimeError(f"no event was made: {made.status} {made.body}")
        return int(made.body["id"])

    async def make(self, person: Person, event: Mapping[str, Any]) -> dict[str, Any]:
        """Make an event with these properties, and return it."""
        made = await self.ask("POST", "/api/events", event, person.token)
        if made.status != 201:  # noqa: PLR2004
            raise RuntimeError(f"no event was made: {made.status} {made.body}")
        found: dict[str, Any] = made.body
        return found

    async def healthy(self, prober: Person, event: int) -> None:
        """Wait until it is ready, and books and cancels several times on new connections."""
        streak = 0
        deadline = time.monotonic() + PATIENCE
        while streak < STREAK:
            if time.monotonic() > deadline:
                raise TimeoutError("the service does not become healthy")
            streak = streak + 1 if await self._is_well(prober, event) else 0
            if not streak:
                await asyncio.sleep(0.05)

    async def _is_well(self, prober: Person, event: int) -> bool:
        client = self.client(1.0)
        try:
            ready = await client.request("GET", "/readyz")
            body = {"eventId": event, "userId": prober.id}
            for verb in ("book", "cancel"):
                answer = await client.request(
                    "POST", f"/api/events/{verb}", body, token=prober.token
                )
                if answer.status == 401:  # noqa: PLR2004
                    await self.log_in(prober)
                    return False
                # 409: the booking was made, but its response was lost.
                if answer.status not in {200, 201, 409}:
                    return False
        except (NotSent, Unanswered):
            return False
        finally:
            client.close()
        return ready.status == 200  # noqa: PLR2004

    async def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect to the database itself."""
        return await asyncpg.connect(self.url, timeout=5, command_timeout=5)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for other processes. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)


def can_mount() -> bool:
    """Whether a separate file system can be made for the database."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "chaos", folder],  # noqa: S607
            capture_output=True,
            check=False,
        )
        if made.returncode == 0:
            subprocess.run(["umount", folder], check=True)  # noqa: S607
    return made.returncode == 0


@contextmanager
def made_folder(*, limited: bool) -> Iterator[Path]:
    """Make a folder that the database's account can enter; if `limited`, on a small disk."""
    folder = Path(tempfile.mkdtemp(prefix="ticketing-chaos-"))
    try:
        if limited:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=711", "chaos", folder],  # noqa: S607
                check=True,
            )
        folder.chmod(0o711)
        yield folder
    finally:
        if limited:
            subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607
        shutil.rmtree(folder, ignore_errors=True)


def settings() -> dict[str, str]:
    """Return the environment of a service."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(PREFIX)},
        "TICKETING_BCRYPT_ROUNDS": "4",
        "TICKETING_RATE_LIMITS": "off",
        "TICKETING_JWT_SECRET": SECRET,
    }


@asynccontextmanager
async def rig(
    kind: Kind, *, forgetful: bool, chance: random.Random, network: Network | None = None
) -> AsyncIterator[Rig]:
    """Run a service and its database until the context ends.

    A `forgetful` database acknowledges before it writes, which the harness must detect.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(made_folder(limited=False))
        environment = settings()
        own = proxy = clock = disk = code = None
        data = folder / "data"
        if kind != "embedded":
            limited = can_mount()
            where = stack.enter_context(made_folder(limited=limited))
            disk = where if limited else None
            own = stack.enter_context(
                embedded(
                    where / "db",
                    max_connections="60",
                    synchronous_commit="off" if forgetful else "on",
                )
            )
            data = where / "db"
            proxy = Proxy(own.sockets / ".s.PGSQL.5432", chance)
            await proxy.start()
            environment["TICKETING_DATABASE_URL"] = (
                f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
            )
            if kind == "earlier":
                code = await asyncio.to_thread(_older, folder, environment)
            else:
                await asyncio.to_thread(migrations.upgrade, own.url)
            if FAKETIME is not None:
                clock = folder / "clock"
                clock.write_text("+0\n")
                environment |= {
                    "LD_PRELOAD": str(FAKETIME),
                    "FAKETIME_TIMESTAMP_FILE": str(clock),
                    "FAKETIME_CACHE_DURATION": "1",
                    "DONT_FAKE_MONOTONIC": "1",
                }
        sockets = own.sockets if own is not None else data / "sockets"
        found = Rig(
            folder=folder,
            environment=environment,
            started=stack,
            services=[],
            ports=[],
            earlier=None,
            network=network,
            cluster=data / "postgres",
            sockets=sockets,
            database=own,
            proxy=proxy,
            clock=clock,
            disk=disk,
        )
        first = await asyncio.to_thread(found.start, code)
        found.ports.append(first.port)
        found.earlier = first.port if kind == "earlier" else None
        await until(lambda: found.is_ready(first))
        keeping = asyncio.create_task(found.keep_database_up())
        try:
            yield found
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            for service in list(found.services):
                await found.stop(service, signal.SIGINT)
            if proxy is not None:
                await proxy.close()


def _older(folder: Path, environment: Mapping[str, str]) -> Path:
    """Unpack the previous version, have it migrate the database, and return its code."""
    version = earlier()
    if version is None:
        raise RuntimeError("the history of the repository has no earlier version")
    code = version.unpack(folder / "earlier")
    subprocess.run(
        [sys.executable, "-m", "ticketing", "migrate"],
        cwd=folder,
        env=of_code(code, environment),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return code


def of_code(code: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for that code, with those settings that it knows."""
    known = (code / "ticketing" / "settings.py").read_text()
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX).lower() in known
    }
    return {**kept, "PYTHONPATH": str(code)}


@contextmanager
def _service(
    folder: Path, environment: Mapping[str, str], console: Path
) -> Iterator[subprocess.Popen[str]]:
    with (
        console.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "ticketing", "serve", "--port", "0", "--workers", str(WORKERS)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            # The whole session, because it belongs to the harness.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _port(process: subprocess.Popen[str], console: Path) -> int:
    for line in process.stdout or ():
        if line.startswith(LISTENING):
            return int(line.rpartition(":")[2])
    raise RuntimeError(f"the service did not start: {console.read_text()}")
