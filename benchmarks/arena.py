"""PostgreSQL, databases and servers of a run, each started when it is first needed."""

import resource
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.ground import PEOPLE, Ground, ground, make_database, write_tokens
from benchmarks.rounds import Driver, wrk
from benchmarks.servers import ROOT, Server, service_environment, serving

from ticketing.db import migrations
from ticketing.embedded.server import embedded

TEMPLATE: Final = "people"
MAIN: Final = "main"
FILES: Final = 65_536
"""Open files that a stampede may need. The limit is raised to this if that is allowed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running PostgreSQL without databases yet, and the folder of the run."""

    folder: Path
    url: str
    postmaster: int
    """Process id."""

    def driver(self, people: int) -> Driver:
        """Write the people's tokens, and return the driver that sends their requests."""
        tokens = self.folder / "people"
        write_tokens(tokens, people)
        return Driver(tokens, self.folder, self.postmaster)


class Arena:
    """One PostgreSQL with databases and servers by name."""

    def __init__(self, cluster: Cluster, stack: ExitStack, people: int) -> None:
        """Set the people that all databases start with."""
        self.folder = cluster.folder
        self.driver = cluster.driver(people)
        self.people = self.driver.people
        self._server_url = cluster.url
        self._stack = stack
        self._urls: dict[str, str] = {}
        self._grounds: dict[str, Ground] = {}
        self._servers: dict[tuple[str, int, str], Server] = {}
        template_url = make_database(cluster.url, TEMPLATE)
        migrations.upgrade(template_url)
        with ground(template_url) as template:
            template.add_people(0, people)
            template.settle()

    def url(self, database: str = MAIN) -> str:
        """Return the URL of a database."""
        if database not in self._urls:
            self._urls[database] = make_database(self._server_url, database, TEMPLATE)
        return self._urls[database]

    def ground(self, database: str = MAIN) -> Ground:
        """Return the harness's own connection to a database."""
        if database not in self._grounds:
            self._grounds[database] = self._stack.enter_context(ground(self.url(database)))
        return self._grounds[database]

    def server(self, name: str, *, workers: int = 2, database: str = MAIN) -> Server:
        """Return a contender's server. An idle server costs the others nothing."""
        key = (name, workers, database)
        if key not in self._servers:
            server = self._stack.enter_context(self.fresh(name, workers=workers, database=database))
            if name != "bare":
                self.driver.greet(server)
            self._servers[key] = server
        return self._servers[key]

    @contextmanager
    def fresh(self, name: str, *, workers: int = 2, database: str = MAIN) -> Iterator[Server]:
        """Run a new server, which has seen no tokens yet."""
        environment = service_environment(self.url(database), self.folder, workers=workers)
        with serving(name, ("benchmarks.serve", name), environment, ROOT) as server:
            yield server


@contextmanager
def cluster(**parameters: str) -> Iterator[Cluster]:
    """Start PostgreSQL with its default durability, in a folder that is removed at the end.

    `parameters` are set on it. Raises CannotRunError if the load generator is missing.
    """
    wrk()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ticketing-bench-")))
        folder.chmod(0o711)  # As root, PostgreSQL has another account, which must pass through
        data = folder / "data"
        running = stack.enter_context(embedded(data, max_connections="200", **parameters))
        pid = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        yield Cluster(folder, running.url, pid)


@contextmanager
def arena(people: int = PEOPLE, **parameters: str) -> Iterator[Arena]:
    """Start PostgreSQL as `cluster` does, with databases that all have the same people."""
    with cluster(**parameters) as found, ExitStack() as stack:
        yield Arena(found, stack, people)
