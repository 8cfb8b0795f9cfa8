"""The database of a command: the embedded one, or one that the settings name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from ticketing.db import revision, sessions
from ticketing.embedded import data, server
from ticketing.errors import StartupError
from ticketing.ops.leaving import held
from ticketing.ops.progress import Tell, progress
from ticketing.settings import Pooler, Settings

if TYPE_CHECKING:
    from ticketing.db.migrations import Migrated

MIGRATING: Final = "Migrating the database"


@contextmanager
def database(
    settings: Settings, *, migrates: bool = True
) -> Iterator[tuple[Settings, Callable[[], None]]]:
    """Yield complete settings, whose database runs and is migrated, and a function.

    The function keeps the embedded database running if it is called often. An embedded database is
    migrated first if `migrates`. Raises StartupError.
    """
    if settings.database_url is not None:
        if settings.jwt_secret is None:
            raise StartupError("TICKETING_JWT_SECRET: is required with TICKETING_DATABASE_URL")
        url = settings.database_url.get_secret_value()
        _require_migrated(url, settings.pooler)
        if settings.pooler == "transaction":
            sessions.require(url)
        yield settings, lambda: None
        return
    # The rest is for commands and for people.
    connections = str(settings.connections + 19)
    with server.embedded(data_dir(settings), max_connections=connections) as running:
        if migrates:
            migrate(running.url)
        else:
            _require_migrated(running.url, "none")
        secret = settings.jwt_secret
        if secret is None:
            secret = SecretStr(data.secret(running.data_dir))
        complete = settings.model_copy(
            update={
                "database_url": SecretStr(running.url),
                "jwt_secret": secret,
                "data_dir": running.data_dir,
            }
        )
        yield complete, running.keep_up


@contextmanager
def reachable(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database. An embedded one is started if no other process runs it."""
    if settings.database_url is None:
        where = data_dir(settings)
        if sockets := server.server_of(where):
            yield server.url_of(sockets)
            return
        data.require_data(where)
    # No secret is needed, because no token is signed here.
    unsigned = settings.model_copy(update={"jwt_secret": SecretStr("")})
    with database(unsigned, migrates=False) as (complete, _):
        assert complete.database_url is not None  # noqa: S101 - for mypy: it is complete
        yield complete.database_url.get_secret_value()


def _require_migrated(url: str, pooler: Pooler) -> None:
    if not revision.is_newest(url):
        with held():
            from ticketing.db import schema  # noqa: PLC0415 - SQLAlchemy takes long to load

            schema.check(url, pooler)


def data_dir(settings: Settings) -> Path:
    """Return the folder of the embedded database."""
    if "data_dir" in settings.model_fields_set:
        return settings.data_dir
    return data.default_data_dir(settings.data_dir)


def migrate(url: str, tell: Tell | None = None, *, pooler: Pooler = "none") -> "Migrated | None":
    """Migrate the database to the newest revision. Progress goes to `tell`, or to the terminal.

    Returns None if there was nothing to do.
    """
    if revision.is_newest(url):
        return None
    with nullcontext(tell) if tell else progress(MIGRATING) as told, held():
        from ticketing.db import migrations  # noqa: PLC0415 - Alembic takes long to load

        return migrations.upgrade(url, tell=told, pooler=pooler)


def signing_secret(settings: Settings) -> str:
    """Return the secret of the service that uses this database. Raises StartupError."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value()
    if settings.database_url is not None:
        raise StartupError("TICKETING_JWT_SECRET: is required with TICKETING_DATABASE_URL")
    return data.secret(data_dir(settings))
