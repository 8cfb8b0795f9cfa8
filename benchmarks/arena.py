"""Everything a run needs, started when first asked for: PostgreSQL, databases and servers."""

import resource
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.ground import PEOPLE, Ground, ground, make_database, write_tokens
from benchmarks.rounds import Driver, wrk
from benchmarks.servers import Server, serving

from ticketing.embedded.server import embedded

TEMPLATE: Final = "people"
MAIN: Final = "main"
FILES: Final = 65_536
"""Open files that a stampede may need; the limit is raised this far if it may be."""


class Arena:
    """One PostgreSQL, and on it databases and servers by name."""

    def __init__(
        self, folder: Path, server_url: str, postmaster: int, stack: ExitStack, people: int
    ) -> None:
        """Make the people that all databases start with."""
        self.folder = folder
        self.people = folder / "people"
        self.driver = Driver(self.people, folder, postmaster)
        self._server_url = server_url
        self._stack = stack
        self._urls: dict[str, str] = {}
        self._grounds: dict[str, Ground] = {}
        self._servers: dict[tuple[str, int, str], Server] = {}
        write_tokens(self.people, people)
        with ground(make_database(server_url, TEMPLATE)) as template:
            template.add_people(0, people)
            template.settle()

    def url(self, database: str = MAIN) -> str:
        """Return the address of a database."""
        if database not in self._urls:
            self._urls[database] = make_database(self._server_url, database, TEMPLATE)
        return self._urls[database]

    def ground(self, database: str = MAIN) -> Ground:
        """Return the harness's own way into a database."""
        if database not in self._grounds:
            self._grounds[database] = self._stack.enter_context(ground(self.url(database)))
        return self._grounds[database]

    def server(self, name: str, *, workers: int = 2, database: str = MAIN) -> Server:
        """Return a contender's server; one that is idle costs the others nothing."""
        key = (name, workers, database)
        if key not in self._servers:
            server = self._stack.enter_context(self.fresh(name, workers=workers, database=database))
            if name != "bare":
                self.driver.greet(server)
            self._servers[key] = server
        return self._servers[key]

    @contextmanager
    def fresh(self, name: str, *, workers: int = 2, database: str = MAIN) -> Iterator[Server]:
        """Run a server of one's own, which has seen nobody yet."""
        with serving(name, self.url(database), self.folder, workers=workers) as server:
            yield server


@contextmanager
def arena(people: int = PEOPLE, **parameters: str) -> Iterator[Arena]:
    """Start PostgreSQL with the durability that it has by default, in a folder that goes away.

    `parameters` are set on it.
    """
    wrk()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ticketing-bench-")))
        folder.chmod(0o711)  # PostgreSQL's account must pass, which is not ours under root
        data = folder / "data"
        running = stack.enter_context(embedded(data, max_connections="200", **parameters))
        pid = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        yield Arena(folder, running.url, pid, stack.enter_context(ExitStack()), people)
