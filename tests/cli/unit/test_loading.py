"""A command loads only what it needs, because loading takes most of its time."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("unmeasured")

LOADED = """
import sys
import ticketing.cli.main
import ticketing.server.worker
print(*sys.modules.keys() & {"alembic", "cryptography", "fastapi", "sqlalchemy", "starlette"})
import ticketing.door.repositories.keys
import ticketing.door.repositories.recount
import ticketing.identity.fields
import ticketing.identity.operator
import ticketing.sale.repositories.recount
print(*sys.modules.keys() & {"alembic", "fastapi", "starlette"})
import ticketing.app
print(*sys.modules.keys() & {"attr", "pygments", "rich"})
"""


def test_each_process_loads_only_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n\n\n"
