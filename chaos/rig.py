"""The service under test with its database, as processes of their own that may be harmed."""

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
from typing import Final, Literal

import asyncpg
from chaos import processes
from chaos.client import Client, NotSent, Response, Unanswered
from chaos.network import Network
from chaos.proxy import Proxy
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
"""MiB that the database has where it is to run out of them."""
DATABASE_ERRORS: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What a connection may raise whose server is harmed."""
STREAK: Final = 3
"""Bookings in a row, each on a new connection, that show that all is well."""


@dataclass
class Person:
    """Somebody with an account."""

    name: str
    id: str = ""
    token: str = ""


Kind = Literal["embedded", "proxied", "earlier"]
"""With a database of the service's own; with one of the harness's behind a proxy; the same, and at
first with the version of the service before this one."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that was started, with the processes that it starts."""

    process: subprocess.Popen[str]
    port: int

    @property
    def workers(self) -> list[int]:
        """The ids of its server processes."""
        found = processes.children(self.process.pid).items()
        return [pid for pid, command in found if "spawn_main" in command]


@dataclass
class Rig:
    """A running service: its own database embedded, or one of the harness behind a proxy."""

    folder: Path
    environment: Mapping[str, str]
    started: ExitStack
    """Where what is started is ended."""
    services: list[Service]
    """Those that run; more than one while one takes another's place."""
    ports: list[int]
    """Where clients are sent."""
    earlier: int | None
    """Where the version before this one listens, or did."""
    network: Network | None
    cluster: Path
    sockets: Path
    database: Embedded | None
    """The harness's own; None if the service runs its own."""
    proxy: Proxy | None
    clock: Path | None
    """Tells the service by how much its clock is wrong."""
    disk: Path | None
    """A file system of the database's own."""

    @property
    def is_embedded(self) -> bool:
        """Whether the service runs the database itself."""
        return self.database is None

    @property
    def url(self) -> str:
        """The database, without the proxy."""
        return url_of(self.sockets)

    @property
    def workers(self) -> list[int]:
        """The ids of the server processes of all services."""
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
        # The harness's own database descends from this process, by its guard.
        return processes.send(pids, number, parent=os.getpid())

    def client(self, patience: float = 15.0) -> Client:
        """Return somebody who can connect."""
        return Client(self.ports, patience=patience)

    def start(self, code: Path | None = None) -> Service:
        """Start a service, of other code if some is given. Raises RuntimeError."""
        environment = self.environment if code is None else of_code(code, self.environment)
        console = self.folder / f"console-{len(list(self.folder.glob('console-*')))}.txt"
        process = self.started.enter_context(_service(self.folder, environment, console))
        service = Service(process, _port(process, console))
        self.services.append(service)
        return service

    async def stop(self, service: Service, number: signal.Signals) -> int | None:
        """Tell a service to stop, and return its status, or None if it does not."""
        self.services.remove(service)
        service.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(service.process.wait, PATIENCE)
        return None

    async def is_ready(self, service: Service) -> bool:
        """Whether a service says that it can serve."""
        client = Client([service.port], patience=5.0)
        try:
            return (await client.request("GET", "/readyz")).status == 200  # noqa: PLR2004 - HTTP
        except (NotSent, Unanswered):
            return False
        finally:
            client.close()

    async def migrate(self) -> str:
        """Bring the database to the newest revision; return what was wrong, or nothing."""
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
        """Start the harness's own database again whenever it has died."""
        while True:
            if self.database is not None:
                self.database.keep_up()
            await asyncio.sleep(0.05)

    async def log_in(self, person: Person) -> None:
        """Get a new token, however long it takes."""

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
        """Ask a healthy service. Raises RuntimeError for an answer of its own fault."""
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

    async def healthy(self, prober: Person, event: int) -> None:
        """Wait until it is ready and books and cancels, several times on new connections."""
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
                # 409: what was booked before it could be answered.
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
    """Wait for what other processes do. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)


def can_mount() -> bool:
    """Whether a file system of its own can be made for the database."""
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
def _folder(*, limited: bool) -> Iterator[Path]:
    """Make a folder that the database's account can enter, `limited` to a small disk of its own."""
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


@asynccontextmanager
async def rig(
    kind: Kind, *, forgetful: bool, chance: random.Random, network: Network | None = None
) -> AsyncIterator[Rig]:
    """Run a service and its database for as long as the context lasts.

    One that is `forgetful` acknowledges before it writes, and must be found out.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(limited=False))
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(PREFIX)},
            "TICKETING_BCRYPT_ROUNDS": "4",
            "TICKETING_RATE_LIMITS": "off",
            "TICKETING_JWT_SECRET": SECRET,
        }
        own = proxy = clock = disk = code = None
        data = folder / "data"
        if kind != "embedded":
            limited = can_mount()
            where = stack.enter_context(_folder(limited=limited))
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
    """Unpack the version before this one, and have it migrate the database; return its code."""
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
    """Return an environment in which that code is run, with those settings that it knows."""
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
            # The whole session, which is the harness's own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _port(process: subprocess.Popen[str], console: Path) -> int:
    for line in process.stdout or ():
        if line.startswith(LISTENING):
            return int(line.rpartition(":")[2])
    raise RuntimeError(f"the service did not start: {console.read_text()}")
