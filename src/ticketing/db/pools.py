"""A worker's pools of database connections."""

from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.database_address import Address
from ticketing.db.engine import connect, pool_use
from ticketing.db.hosts import Server
from ticketing.db.primary import Primary
from ticketing.ops.metrics import LIVE, Rising, Sample
from ticketing.settings import Pooler

USED: Final = Gauge(
    "ticketing_pool_connections_used",
    "Database connections in use.",
    ["pool"],
    multiprocess_mode=LIVE,
)
LIMIT: Final = Gauge(
    "ticketing_pool_connections_limit",
    "Database connections allowed.",
    ["pool"],
    multiprocess_mode=LIVE,
)
REFUSED: Final = Counter(
    "ticketing_database_connections_refused_total",
    "Connections that the database had no room for.",
)
LOST: Final = Counter(
    "ticketing_database_connections_discarded_total",
    "Connections that were replaced because they were lost, or probably lost.",
)
FAILOVERS: Final = Counter(
    "ticketing_database_failovers_total",
    "How often this worker saw that another server had become the primary.",
)
AWAY: Final = Counter(
    "ticketing_database_away_seconds_total",
    "Seconds in which this worker saw no primary.",
)


class Pools:
    """Opens the pools of a worker, and closes them together."""

    def __init__(self, url: str, size: int, pooler: Pooler) -> None:
        """Make the pool that requests share, without connecting yet."""
        self._server = Server(Address.parse(url), pooler)
        self._pools: list[AsyncEngine] = []
        self.samples: list[Sample] = []
        """The metrics of the pools to sample."""
        self.primary = Primary(self._server)
        self.samples += [
            (Rising(REFUSED), lambda: self._server.refused),
            (Rising(LOST), lambda: self._server.lost),
            (Rising(FAILOVERS), lambda: self.primary.failovers),
            (Rising(AWAY), lambda: self.primary.away),
        ]
        self.requests = self._open(size)
        self._show("requests", self.requests, size)

    @property
    def is_short(self) -> bool:
        """Whether the database had no room for a connection a short while ago."""
        return self._server.is_short

    def alone(self, name: str) -> AsyncEngine:
        """Return a pool of one connection, for a user that must never wait for another."""
        pool = self._open(1)
        self._show(name, pool, 1)
        return pool

    def of_one_worker(self, size: int) -> AsyncEngine:
        """Return a pool without metrics, because only one worker uses it."""
        return self._open(size)

    def _open(self, size: int) -> AsyncEngine:
        pool = connect(self._server, pool_size=size)
        self._pools.append(pool)
        return pool

    def _show(self, name: str, pool: AsyncEngine, size: int) -> None:
        LIMIT.labels(name).set(size)
        self.samples.append((USED.labels(name), partial(pool_use, pool)))

    async def close(self) -> None:
        """Close every connection."""
        for pool in reversed(self._pools):
            await pool.dispose()
