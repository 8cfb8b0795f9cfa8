"""PgBouncer in front of the server of the tests."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import make_url

from tests.folders import folder_open_to_all
from tests.fronts import needed, wait_until_accepting
from ticketing.embedded.account import Account
from ticketing.settings import Pooler

LENT = {"session": 100, "transaction": 3}
"""How many sessions of the server it has per database. Three are fewer than a worker's clients, so
that these share them."""


@dataclass(frozen=True)
class Bouncer:
    """A running PgBouncer."""

    mode: Pooler
    port: int

    def to(self, url: str) -> str:
        """Return the address of the database at `url` by way of it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{make_url(url).database}"


@contextmanager
def bouncing(server_url: str, mode: Pooler) -> Iterator[Bouncer]:
    """Run it in front of a server, with its defaults where the tests need nothing else.

    So it refuses parameters and prepared statements as 1.18 does.
    """
    program = needed("pgbouncer")
    account = Account.choose()  # It refuses to run as root.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with folder_open_to_all() as folder:
        said = folder / "said.txt"
        config = folder / "pgbouncer.ini"
        config.write_text(f"""
[databases]
* = host={make_url(server_url).query["host"]} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {LENT[mode]}
max_client_conn = 1000
""")
        with (
            said.open("wb") as console,
            subprocess.Popen(
                [program, config], stdout=console, stderr=console, cwd="/", **account.popen
            ) as process,
        ):
            try:
                wait_until_accepting(process, port, said)
                yield Bouncer(mode, port)
            finally:
                process.kill()
