"""The two sides of a comparison: the code of a commit, each with its own database and server."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.arena import Cluster
from benchmarks.ground import PEOPLE, Books, BooksWrongError, CannotRunError, Ground, make_database
from benchmarks.rounds import Driver
from benchmarks.servers import ROOT, Server, service_environment, serving

WORKERS: Final = 2
OWN_CODE: Final = "import ticketing; print(ticketing.__file__)"


def git(*arguments: str) -> str:
    """Run git on the repository and return its output. Raises CannotRunError."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the one on the path
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C must not stop it while it cleans up.
        )
    except FileNotFoundError as error:
        raise CannotRunError("git is not installed; it must get the earlier commit") from error
    if done.returncode:
        raise CannotRunError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a new folder, which is removed at the end."""
    try:
        git("worktree", "add", "--detach", str(folder), commit)
        yield folder
    finally:
        if folder.exists():
            # --force twice, because an interrupted `worktree add` leaves the worktree locked.
            git("worktree", "remove", "--force", "--force", str(folder))


@dataclass(frozen=True, slots=True)
class Code:
    """The code of one side, and the environment of its commands."""

    name: str
    tree: Path
    folder: Path
    """Working folder of its commands, which is empty so that no file there has an effect."""
    variables: Mapping[str, str]

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with this side's code."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def prepare(self) -> None:
        """Migrate the database. Raises CannotRunError.

        Missing commands are noticed here, and not at the end of a long run.
        """
        found = self.python("-c", OWN_CODE)
        if not Path(found.stdout.strip()).is_relative_to(self.tree):
            raise CannotRunError(
                f"{self.name}: Python does not import ticketing from {self.tree / 'src'}:"
                f" {found.stdout}{found.stderr}"
            )
        for command in ("migrate", "audit"):
            done = self.python("-m", "ticketing", command)
            if done.returncode:
                raise CannotRunError(
                    f"{self.name}: `ticketing {command}` failed: {done.stdout}{done.stderr}"
                )

    def audit(self) -> str:
        """Recount with this side's own command, and return its output.

        Raises BooksWrongError if counters and rows differ.
        """
        done = self.python("-m", "ticketing", "audit")
        if done.returncode:
            raise BooksWrongError(
                f"{self.name}: `ticketing audit` ended with status {done.returncode}:"
                f" {done.stdout}{done.stderr}"
            )
        return done.stdout.strip()


class SharedGround(Ground):
    """A database that is used only through interfaces that all commits share.

    Events are made over HTTP, and only the columns `event_id` and `status` of bookings are read,
    so that the rest of the schema may differ. `ticketing audit` checks the counters.
    """

    def __init__(self, url: str, server: Server, token: str) -> None:
        """Connect. `token` is that of the person who makes the events."""
        super().__init__(url)
        self._server = server
        self._token = token

    def add_events(self, count: int, places: int = 1_000_000) -> int:
        """Make events with consecutive ids, and return the first id."""
        made = [
            self._server.create(
                "/api/events/initialize",
                {"name": f"Event {number}", "totalTickets": places},
                self._token,
            )
            for number in range(count)
        ]
        first = int(made[0]["id"])
        if [each["id"] for each in made] != list(range(first, first + count)):
            raise CannotRunError(f"{self._server.name}: the ids of new events are not consecutive")
        return first

    def add_offers(self, count: int, types: int) -> tuple[int, list[int]]:
        """Make events with consecutive ids, whose ticket types share a quota.

        Return the first id, and the ids of the types of all events.
        """
        names = [f"Type {number}" for number in range(types)]
        hall = {"name": "Hall", "capacity": 1_000_000, "ticketTypes": names}
        offer = {
            "capacity": 1_000_000,
            "ticketTypes": [{"name": name} for name in names],
            "quotas": [hall],
        }
        made = [
            self._server.create("/api/events", {"name": f"Event {number}", **offer}, self._token)
            for number in range(count)
        ]
        first = int(made[0]["id"])
        if [each["id"] for each in made] != list(range(first, first + count)):
            raise CannotRunError(f"{self._server.name}: the ids of new events are not consecutive")
        return first, [kind["id"] for each in made for kind in each["ticketTypes"]]

    def books(self, first_event: int, events: int) -> Books:
        """Count the rows of the events by status. The counters are computed from the rows.

        A status that only one of the commits knows counts as booked.
        """
        found = self.row(
            "SELECT count(*) FILTER (WHERE status::text NOT IN ('waiting', 'cancelled')),"
            " count(*) FILTER (WHERE status::text = 'waiting'),"
            " count(*) FILTER (WHERE status::text = 'cancelled')"
            " FROM bookings WHERE event_id BETWEEN $1 AND $2",
            first_event,
            first_event + events - 1,
        )
        booked, waiting, cancelled = found
        return Books(booked, waiting, booked, waiting, cancelled, crooked=0)


@dataclass(frozen=True, slots=True)
class Side:
    """One side while it runs."""

    code: Code
    server: Server
    ground: SharedGround


@contextmanager
def side(
    name: str, tree: Path, cluster: Cluster, driver: Driver, **settings: str
) -> Iterator[Side]:
    """Run the code in `tree` until the context ends, with people who can book.

    `settings` are environment variables of the service. Its workers have seen all tokens.
    """
    folder = cluster.folder / f"side-{name}"
    folder.mkdir()
    url = make_database(cluster.url, f"side_{name}")
    variables = service_environment(
        url, folder, workers=WORKERS, PYTHONPATH=str(tree / "src"), **settings
    )
    code = Code(name, tree, folder, variables)
    code.prepare()
    with driver.people.open() as tokens:
        _, token = tokens.readline().split()
    with serving(name, ("ticketing", "serve"), variables, folder) as server:
        ground = SharedGround(url, server, token)
        try:
            ground.add_people(0, PEOPLE)
            ground.settle()
            driver.greet(server)
            yield Side(code, server, ground)
        finally:
            ground.close()
