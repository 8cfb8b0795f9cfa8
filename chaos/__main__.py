"""`python -m chaos`: rounds of faults under load, and a table of what was seen."""

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos import faults, report
from chaos.client import Response
from chaos.history import save
from chaos.rig import Rig, rig
from chaos.rounds import Round, play

RESULTS: Final = Path(__file__).parent / "results"
PEOPLE: Final = 24
EMBEDDED: Final = 0.6
"""The share, of rounds that can, with a database of the service's own."""


def plan(chance: random.Random, names: Sequence[str], rounds: int) -> list[tuple[bool, list[str]]]:
    """Choose the faults of each round, each at least as often as chance leaves to others."""
    made = []
    for number in range(rounds):
        # Each in turn comes first, so that each has its share.
        first = names[number % len(names)]
        others = [name for name in names if name != first]
        more = chance.choices((0, 1, 2), (4, 3, 2))[0]
        chosen = [first, *chance.sample(others, min(more, len(others)))]
        embedded = chance.random() < EMBEDDED and not faults.NEED_PROXY & set(chosen)
        made.append((embedded, chosen))
    return made


async def run(  # noqa: PLR0913 - by name
    names: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    freeze: float,
    seed: str,
    keys: bool,
    forgetful: bool,
    results: Path,
    played: list[Round],
) -> None:
    """Play the rounds, add each to `played`, and save the histories of those that fail."""
    chance = random.Random(seed)
    planned = plan(chance, names, rounds)
    if forgetful:  # Only the harness's own database can be.
        planned = [(False, chosen) for _, chosen in planned]
    for embedded in (True, False):
        chosen = [faults_ for is_embedded, faults_ in planned if is_embedded == embedded]
        if not chosen:
            continue
        async with rig(embedded=embedded, forgetful=forgetful, chance=chance) as ready:
            people = await ready.register([f"person-{n}" for n in range(PEOPLE)])
            keyed = keys and await _knows_keys(ready, people[0].token)
            if keys and not keyed:
                report.say("keys: the service does not know Idempotency-Key, so none is sent")
            lacking = {name: faults.missing(name, ready) for name in names}
            for name, why in lacking.items():
                if why:
                    report.say(f"skipped: {name}: {why}")
            for each in chosen:
                possible = [name for name in each if not lacking[name]]
                if not possible:
                    continue
                number = len(played) + 1
                one = await play(
                    ready,
                    people,
                    number=number,
                    seed=f"{seed}-{number}",
                    faults=possible,
                    seconds=seconds,
                    freeze=freeze,
                    keyed=keyed,
                )
                played.append(one)
                report.say(one.line())
                if one.wrong:
                    path = results / f"failed-{one.seed}.json"
                    more = {"seed": one.seed, "faults": one.faults, "wrong": one.wrong}
                    save(path, one.operations, one.books, **more)
                    report.say(f"      its history: {path}")


async def _knows_keys(ready: Rig, token: str) -> bool:
    client = ready.client()
    body = {"name": "An event", "totalTickets": 1}

    async def ask() -> Response:
        return await client.request(
            "POST", "/api/events/initialize", body, token=token, key="a-key-of-the-harness"
        )

    await ask()
    return "idempotency-replayed" in (await ask()).headers


def main() -> None:
    """Play as many rounds as the command line says; exit 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=3.0, help="within which faults begin")
    parser.add_argument("--freeze", type=float, default=10.0, help="how long a database is frozen")
    parser.add_argument("--faults", default=",".join(faults.FAULTS), help="some of the default's")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--keys", action="store_true", help="send Idempotency-Key, and retry by it")
    parser.add_argument(
        "--forgetful",
        action="store_true",
        help="have the database acknowledge before it writes, which the harness must find out",
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    names = given.faults.split(",")
    if unknown := [name for name in names if name not in faults.FAULTS]:
        parser.error(f"no such fault: {', '.join(unknown)}")
    played: list[Round] = []
    try:
        asyncio.run(
            run(
                names,
                rounds=given.rounds,
                seconds=given.seconds,
                freeze=given.freeze,
                seed=given.seed,
                keys=given.keys,
                forgetful=given.forgetful,
                results=given.results,
                played=played,
            )
        )
    finally:
        report.write(given.results / "faults.md", played, seed=given.seed)
    sys.exit(any(each.wrong for each in played))


if __name__ == "__main__":
    main()
