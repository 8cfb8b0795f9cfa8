"""What is set in each session of the service, and what a role needs behind a pooler."""

from typing import Final

from ticketing.database_address import Address
from ticketing.db.hosts import Connection, Server
from ticketing.errors import StartupError
from ticketing.ops import leaving

STATEMENT_TIMEOUT: Final = "15s"
"""Longer than `engine.COMMAND_TIMEOUT`. It ends statements on the server that nobody waits for any
more."""
IDLE_TIMEOUT: Final = "10s"
"""For an idle transaction, because it may hold locks that others wait for."""
LOCK_TIMEOUT: Final = "250ms"
"""Far longer than a commit of the service holds a row. Another program that holds one longer must
not stop a sale."""

NAMED: Final = {"application_name": "ticketing", "timezone": "UTC"}
"""Parameters at the start of a session that every pooler passes on."""
PATIENCE: Final = 5.0
"""Seconds to wait for the database."""
SHOWN: Final = """
    SELECT name, current_setting(name) AS is_now FROM unnest(CAST($1 AS text[])) AS asked(name)
"""
WHO: Final = "SELECT quote_ident(current_user), quote_ident(current_database())"


def promised() -> dict[str, str]:
    """Return what must be set in each session of the service.

    A pooler that lends a session for one transaction can't set it, so the role must have it.
    """
    return {
        # Compiling a query of a few milliseconds costs more than it saves.
        "jit": "off",
        # Every query has an index. A statement that was planned while a table was empty must not
        # keep reading all of it when it is large.
        "enable_seqscan": "off",
        "lock_timeout": LOCK_TIMEOUT,
        "statement_timeout": STATEMENT_TIMEOUT,
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT,
    }


async def lacking(connection: Connection) -> str | None:
    """Return the SQL that sets what the role's sessions lack, in one line, or None."""
    wanted = promised()
    found = await connection.fetch(SHOWN, list(wanted))
    wrong = [row["name"] for row in found if row["is_now"] != wanted[row["name"]]]
    if not wrong:
        return None
    ((role, database),) = await connection.fetch(WHO)
    return " ".join(
        f"ALTER ROLE {role} IN DATABASE {database} SET {name} = '{wanted[name]}';" for name in wrong
    )


def require(url: str) -> None:
    """Raise StartupError if the role's sessions lack something that a pooler can't set.

    The database can be reached. Errors of it are raised as they are.
    """

    async def ask() -> str | None:
        server = Server(Address.parse(url), "transaction")
        with leaving.cancellable():
            connection = await server.connect(command_timeout=PATIENCE)
            try:
                return await lacking(connection)
            finally:
                await connection.close()

    if sql := leaving.run(ask()):
        raise StartupError(
            "TICKETING_POOLER=transaction: the database's role lacks settings that such a pooler"
            f" can't pass on. Run this, then RECONNECT in the pooler: {sql}"
        )
