"""The upper limit of the database: the same rows, written by pgbench without a service."""

import re
import subprocess
from pathlib import Path
from statistics import quantiles
from typing import Final

from benchmarks.ground import PEOPLE, PERSON_SQL, BooksWrongError, Ground, program
from benchmarks.rounds import MAX_RATE, Round

BATCH: Final = 100

# One statement is one transaction and one round trip. As in the other contests there is one hot
# event at a time, and the next one after every person has booked it.
SCRIPT: Final = f"""
WITH draw AS MATERIALIZED (SELECT nextval('bench_draw') * :batch AS start),
swapped AS (
    UPDATE events SET available_tickets = available_tickets - :batch, version = version + 1
    FROM draw WHERE id = :event + start / {PEOPLE} RETURNING id, start
)
INSERT INTO bookings (id, event_id, user_id, status, created_at)
SELECT uuidv7(), id, {PERSON_SQL}, 'booked', now()
FROM swapped, generate_series(start % {PEOPLE}, start % {PEOPLE} + :batch - 1) AS n;
"""  # noqa: S608 - our own constants


def contest_name(clients: int, batch: int) -> str:
    """Return the name of the contest within a run."""
    return f"pgbench, {batch} per transaction, {clients} clients"


def run(ground: Ground, folder: Path, seconds: int, *, clients: int, batch: int) -> Round:
    """Run one round, and check counters and rows. Raises BooksWrongError."""
    most = MAX_RATE * 10 if batch > 1 else MAX_RATE
    events = int(most * seconds / PEOPLE) + 2
    first = ground.add_events(events)
    ground.execute("DROP SEQUENCE IF EXISTS bench_draw")
    ground.execute("CREATE SEQUENCE bench_draw MINVALUE 0")
    script = folder / "pgbench.sql"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [
            program("pgbench"),
            *("--no-vacuum", "--protocol", "prepared", "--time", str(seconds)),
            *("--client", str(clients), "--log", "--log-prefix", str(folder / "pgbench_log")),
            *("--define", f"event={first}", "--define", f"batch={batch}"),
            *("--file", str(script), ground.url),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"pgbench failed: {done.stderr}")
    transactions = int(_number(done.stdout, r"transactions actually processed: (\d+)"))
    took = []
    for log in folder.glob("pgbench_log*"):
        # client, transaction, microseconds, script, time
        took += [int(line.split()[2]) / 1000 for line in log.read_text().splitlines()]
        log.unlink()
    books = ground.books(first, events)
    if books.crooked or books.booked_rows != transactions * batch:
        raise BooksWrongError(f"pgbench: {transactions} transactions, {books.booked_rows} rows")
    percentiles = quantiles(took, n=100)
    return Round(
        contest=contest_name(clients, batch),
        per_second=_number(done.stdout, r"tps = ([\d.]+)") * batch,
        p50=percentiles[49],
        p90=percentiles[89],
        p99=percentiles[98],
        worst=max(took),
        answered=transactions * batch,
        rows=books.booked_rows,
    )


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"pgbench did not say {pattern}")
    return float(found[1])
