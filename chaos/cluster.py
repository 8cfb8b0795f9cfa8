"""A cluster of three PostgreSQL nodes with Patroni, etcd and HAProxy, and the files of `deploy/`.

Needs Debian's etcd-server and haproxy, and pgbouncer for rounds with a pooler. Patroni is installed
from PyPI into a folder of its own.
"""

import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
from chaos.relay import Relay

from ticketing.embedded.account import Account
from ticketing.embedded.binaries import binaries_for

DEPLOY: Final = Path(__file__).parents[1] / "deploy" / "cluster"
FROM_PYPI: Final = ("patroni[etcd3]==4.1.5", "psycopg[binary]==3.3.4")
NODES: Final = 3
PATIENCE: Final = 120.0
PASSWORD: Final = "change-superuser"  # noqa: S105 - as in the file
DATABASE: Final = "ticketing"
LOGGED: Final = 1500
"""Characters of each log that are shown."""
LOST: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass
class Node:
    """A node: PostgreSQL and its Patroni, and the relays of its network."""

    name: str
    postgres: int
    rest: int
    data: Path
    config: Path
    relays: list[Relay]
    outer: int
    """The port of PostgreSQL by way of its network."""
    patroni: "subprocess.Popen[bytes] | None" = None

    @property
    def processes(self) -> list[int]:
        """The ids of all of its PostgreSQL's processes."""
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with suppress(OSError):
                    if (each / "cwd").resolve(strict=True) == self.data:
                        found.append(int(each.name))
        return found

    @property
    def postmaster(self) -> list[int]:
        """The id of its PostgreSQL's first process, if it runs."""
        with suppress(OSError, ValueError, IndexError):
            return [int((self.data / "postmaster.pid").read_text().split()[0])]
        return []

    def send(self, number: signal.Signals, *, postgres: bool = True, patroni: bool = True) -> None:
        """Send a signal to its processes."""
        if patroni and self.patroni is not None:
            with suppress(ProcessLookupError):
                self.patroni.send_signal(number)
        for pid in self.processes if postgres else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def forget_settings(self) -> None:
        """Remove what `Cluster.be_patient` has set. It must not run."""
        (self.data / "postgresql.auto.conf").write_text("")

    def cut(self) -> None:
        """Cut it off from everything else."""
        for relay in self.relays:
            relay.cut()

    def heal(self) -> None:
        """End that."""
        for relay in self.relays:
            relay.heal()


@dataclass
class Cluster:
    """A running cluster."""

    nodes: list[Node]
    folder: Path
    patroni: Path
    account: Account
    haproxy: int
    pgbouncer: int | None
    programs: "dict[str, subprocess.Popen[bytes]]"
    """Everything but the nodes, by name."""

    def url(self, *ports: int) -> str:
        """The address of the primary, by way of HAProxy or of other ports."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or (self.haproxy,))
        return f"postgresql://postgres:{PASSWORD}@{hosts}/{DATABASE}?sslmode=disable"

    @property
    def logs(self) -> str:
        """The ends of the logs of all programs and replicas, each after the name of its file."""
        logs = [*sorted(self.folder.glob("*.log")), *sorted(self.folder.parent.glob("console-*"))]
        return "".join(
            f"{log.name}:\n{log.read_text(errors='replace')[-LOGGED:]}\n" for log in logs
        )

    def front(self, *ports: int) -> int:
        """Start HAProxy with `deploy/haproxy.cfg` before these replicas, and return its port."""
        port = _free_port()
        servers = [f"server r{n} 127.0.0.1:{each}" for n, each in enumerate(ports, 1)]
        changes = {
            ":443 ssl crt /etc/ssl/site.example.pem alpn h2,http/1.1": f"127.0.0.1:{port}",
            "use_backend ticketing if { path /tickets } || { path_beg /tickets/ }": (
                "default_backend ticketing"
            ),
            "server one 127.0.0.1:3000": "\n    ".join(servers),
        }
        self.proxy("front", _filled(DEPLOY.parent / "haproxy.cfg", changes))
        return port

    def proxy(self, name: str, text: str) -> None:
        """Start HAProxy with this configuration."""
        config = self.folder / f"{name}.cfg"
        config.write_text(text)
        self.run(name, [_program("haproxy"), "-db", "-f", config])

    def run(self, name: str, command: list[Any], **account: Any) -> None:  # noqa: ANN401
        """Start a program that runs as long as the cluster."""
        with (self.folder / f"{name}.log").open("ab") as file:
            self.programs[name] = subprocess.Popen(
                command, stdout=file, stderr=file, cwd="/", start_new_session=True, **account
            )

    def require_programs(self) -> None:
        """Raise RuntimeError if one has ended."""
        patronis = {each.name: each.patroni for each in self.nodes if each.patroni is not None}
        running = {**self.programs, **patronis}
        ended = [name for name, each in running.items() if each.poll() is not None]
        if ended:
            raise RuntimeError(f"ended by itself: {', '.join(ended)}")

    def start(self, node: Node) -> None:
        """Start a node's Patroni, which starts its PostgreSQL."""
        with (self.folder / f"{node.name}.log").open("ab") as log:
            node.patroni = subprocess.Popen(
                [self.patroni, node.config],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self.account.popen,
            )

    async def members(self) -> list[dict[str, Any]]:
        """What a Patroni that responds says of all nodes; nothing if none does."""
        for node in self.nodes:
            with suppress(OSError, ValueError, TimeoutError):
                async with asyncio.timeout(3):
                    found = await asyncio.to_thread(_fetch, node.rest, "cluster")
                    members: list[dict[str, Any]] = found["members"]
                    return members
        return []

    async def leader(self) -> Node:
        """The primary. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for each in await self.members():
                    if each["role"] == "leader":
                        return next(node for node in self.nodes if node.name == each["name"])
                await asyncio.sleep(0.1)

    def standbys(self, leader: Node) -> list[Node]:
        """All others."""
        return [node for node in self.nodes if node is not leader]

    async def accepts(self) -> None:
        """Wait until HAProxy leads to a server that commits. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while not await self._commits():  # noqa: ASYNC110 - another process does
                await asyncio.sleep(0.02)

    async def _commits(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url(), timeout=1, command_timeout=1)
        except LOST:
            return False
        try:
            await connection.execute("SELECT pg_logical_emit_message(true, 'probe', '')")
        except LOST:
            return False
        finally:
            connection.terminate()
        return True

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn what goes wrong at the start into RuntimeError, with the logs."""
        try:
            yield
        except (RuntimeError, TimeoutError, *LOST) as error:
            why = str(error) or "it takes too long"
            raise RuntimeError(f"the rig does not start: {why}\n{self.logs}") from error

    async def agrees(self, etcd: list[int]) -> None:
        """Wait until every member of etcd knows the version of all.

        Patroni ends at once if it asks one before.
        """
        async with asyncio.timeout(PATIENCE):
            for port in etcd:
                while await self._version(port) in {"", "not_decided"}:
                    await asyncio.sleep(0.1)
                    self.require_programs()

    async def _version(self, port: int) -> str:
        with suppress(OSError, ValueError):
            return str((await asyncio.to_thread(_fetch, port, "version"))["etcdcluster"])
        return ""

    async def whole(self) -> None:
        """Wait until there is a primary, which a standby follows synchronously, and all run.

        Raises TimeoutError, or RuntimeError if a program has ended.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                self.require_programs()
                members = await self.members()
                running = [each for each in members if each["state"] in {"running", "streaming"}]
                roles = {each["role"] for each in running}
                if len(running) == NODES and {"leader", "sync_standby"} <= roles:
                    return
                await asyncio.sleep(0.3)

    async def be_patient(self) -> None:
        """Have the primary keep standbys that do not respond, so that Patroni does too.

        Otherwise Patroni lets the primary go on alone, and no standby may be promoted.
        """
        connection = await asyncpg.connect(self.url(), timeout=5, command_timeout=5)
        await connection.execute("ALTER SYSTEM SET wal_sender_timeout = 0")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()

    async def switch_over(self) -> None:
        """Have another node become the primary, as an operator does."""
        leader = await self.leader()
        body = json.dumps({"leader": leader.name}).encode()
        with suppress(OSError):
            await asyncio.to_thread(_fetch, leader.rest, "switchover", body)


def _fetch(port: int, path: str, body: bytes | None = None) -> Any:  # noqa: ANN401 - JSON
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", data=body)
    with urllib.request.urlopen(request, timeout=60 if body else 2) as response:  # noqa: S310 - our own
        content = response.read()
    return json.loads(content) if body is None else content


def missing(*, pooled: bool) -> str:
    """Return what this machine lacks; empty if it has everything."""
    needed = {"etcd": "etcd-server", "haproxy": "haproxy"}
    if pooled:
        needed["pgbouncer"] = "pgbouncer"
    lacking = [package for program, package in needed.items() if _program(program) is None]
    return f"apt-get install {' '.join(lacking)}" if lacking else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _patroni(account: Account) -> Path:
    """Install Patroni where the account can run it, and return its path. Raises RuntimeError."""
    folder = Path(tempfile.gettempdir()) / f"ticketing-{re.sub(r'[^a-z0-9.]+', '-', FROM_PYPI[0])}"
    if not (folder / "installed").exists():
        found = (Path(sys.executable).resolve(), Path("/usr/bin/python3"))
        python = next((each for each in found if each.exists() and account.can_reach(each)), None)
        if python is None:
            raise RuntimeError("as root, Patroni needs a Python that other accounts can run")
        subprocess.run([python, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
        subprocess.run([*pip, "install", "--quiet", *FROM_PYPI], check=True)
        (folder / "installed").touch()
    return folder / "bin" / "patroni"


def _free_port() -> int:
    """Return a port that nobody uses, below those that the system gives to connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _filled(path: Path, changes: Mapping[str, str]) -> str:
    """Return the file of `deploy`, changed for this machine. Each change must apply."""
    text = path.read_text()
    for old, new in changes.items():
        if old not in text:
            raise RuntimeError(f"{path} has no {old!r}")
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def running(folder: Path, *, pooled: bool) -> AsyncIterator[Cluster]:
    """Run a cluster in `folder`, which all may enter, until the context ends."""
    account = Account.choose()
    binaries = binaries_for(account)
    folder.chmod(0o777)
    async with AsyncExitStack() as stack:
        etcd = [(_free_port(), _free_port()) for _ in range(NODES)]
        nodes = [
            await _node(n, folder, binaries, [client for client, _ in etcd], stack)
            for n in range(1, NODES + 1)
        ]
        cluster = Cluster(
            nodes=[node for node, _ in nodes],
            folder=folder,
            patroni=await asyncio.to_thread(_patroni, account),
            account=account,
            haproxy=_free_port(),
            pgbouncer=_free_port() if pooled else None,
            programs={},
        )
        stack.callback(_end, cluster)
        _etcd(cluster, etcd)
        with cluster.explaining():
            await cluster.agrees([client for client, _ in etcd])
        for node in cluster.nodes:
            cluster.start(node)
        changes = {"10.0.0.10:5000": f"127.0.0.1:{cluster.haproxy}"}
        for number, (_, (postgres, rest)) in enumerate(nodes, 1):
            changes[f"10.0.0.{number}:5432 check port 8008"] = (
                f"127.0.0.1:{postgres} check port {rest}"
            )
        cluster.proxy("haproxy", _filled(DEPLOY / "haproxy.cfg", changes))
        with cluster.explaining():
            await cluster.whole()
            await _make_database(cluster)
            if cluster.pgbouncer is not None:
                _pool(cluster)
        yield cluster


def _etcd(cluster: Cluster, ports: list[tuple[int, int]]) -> None:
    """Start the members."""
    folder = cluster.folder
    names = [f"e{number}" for number in range(NODES)]
    peers = ",".join(
        f"{name}=http://127.0.0.1:{peer}" for name, (_, peer) in zip(names, ports, strict=True)
    )
    for name, (client, peer) in zip(names, ports, strict=True):
        ours, theirs = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        command = [
            *(_program("etcd"), "--name", name, "--data-dir", folder / name),
            *("--listen-client-urls", ours, "--advertise-client-urls", ours),
            *("--listen-peer-urls", theirs, "--initial-advertise-peer-urls", theirs),
            *("--initial-cluster", peers, "--logger", "zap"),
        ]
        cluster.run(f"etcd-{name}", command)


async def _node(
    number: int, folder: Path, binaries: Path, etcd: list[int], stack: AsyncExitStack
) -> tuple[Node, tuple[int, int]]:
    """Return a node, and the ports of PostgreSQL and Patroni by way of its network."""
    postgres, rest = _free_port(), _free_port()
    relays = [Relay(postgres), Relay(rest), Relay(*etcd[number - 1 :], *etcd[: number - 1])]
    for relay in relays:
        stack.push_async_callback(relay.close)
    outer_postgres, outer_rest, outer_etcd = [await relay.start() for relay in relays]
    data = folder / f"data{number}"
    changes = {
        "name: n1": f"name: n{number}",
        "listen: 10.0.0.1:8008": f"listen: 127.0.0.1:{rest}",
        "connect_address: 10.0.0.1:8008": f"connect_address: 127.0.0.1:{outer_rest}",
        # Without a look at the members, whose addresses would lead past the relay.
        "hosts: 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379": (
            f"hosts: 127.0.0.1:{outer_etcd}\n  use_proxies: true"
        ),
        "listen: 10.0.0.1:5432": f"listen: 127.0.0.1:{postgres}",
        "connect_address: 10.0.0.1:5432": f"connect_address: 127.0.0.1:{outer_postgres}",
        "/var/lib/postgresql/18/main": str(data),
        "/usr/lib/postgresql/18/bin": str(binaries),
        "  authentication:": (
            f"  pgpass: {folder}/pgpass{number}\n  parameters:\n"
            f"    unix_socket_directories: {folder}\n  authentication:"
        ),
        "local all all peer": "local all all trust",
        "10.0.0.0/24": "127.0.0.1/32",
    }
    config = folder / f"patroni{number}.yml"
    config.write_text(_filled(DEPLOY / "patroni.yml", changes))
    node = Node(f"n{number}", postgres, rest, data.resolve(), config, relays, outer_postgres)
    return node, (outer_postgres, outer_rest)


async def _make_database(cluster: Cluster) -> None:
    url = cluster.url().replace(f"/{DATABASE}?", "/postgres?")
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                connection = await asyncpg.connect(url, timeout=2)
                await connection.execute(f"CREATE DATABASE {DATABASE}")
                await connection.close()
            except asyncpg.DuplicateDatabaseError:
                return
            except LOST:
                await asyncio.sleep(0.2)
            else:
                return


def _pool(cluster: Cluster) -> None:
    folder = cluster.folder
    users = folder / "userlist.txt"
    users.write_text(f'"postgres" "{PASSWORD}"\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        _filled(
            DEPLOY / "pgbouncer.ini",
            {
                "host=10.0.0.10 port=5000": f"host=127.0.0.1 port={cluster.haproxy}",
                "listen_port = 6432": f"listen_port = {cluster.pgbouncer}",
                "/etc/pgbouncer/userlist.txt": str(users),
            },
        )
    )
    cluster.run("pgbouncer", [_program("pgbouncer"), config], **cluster.account.popen)


def _end(cluster: Cluster) -> None:
    """Kill every node, and everything else."""
    for program in cluster.programs.values():
        program.kill()
        program.wait()
    for node in cluster.nodes:
        node.send(signal.SIGKILL)
        if node.patroni is not None:
            node.patroni.wait()
    deadline = time.monotonic() + 10
    while any(node.processes for node in cluster.nodes) and time.monotonic() < deadline:
        for node in cluster.nodes:
            node.send(signal.SIGKILL, patroni=False)
        time.sleep(0.1)
