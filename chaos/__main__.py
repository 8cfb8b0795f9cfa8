"""`python -m chaos`: rounds of faults under load, and a table of the results."""

import argparse
import asyncio
import random
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from chaos import cluster, faults, report
from chaos.client import Response
from chaos.failovers import FAILOVERS
from chaos.history import save
from chaos.network import Network
from chaos.replicas import replicated
from chaos.rig import Kind, Person, Rig, rig
from chaos.rounds import DUE, REPLAYED, Round, play
from chaos.versions import earlier

RESULTS: Final = Path(__file__).parent / "results"
PEOPLE: Final = 24
EMBEDDED: Final = 0.6
"""Share of rounds with the service's embedded database, of those that allow it."""
WAYS: Final[Mapping[str, Kind]] = {"haproxy": "cluster", "hosts": "hosts", "pgbouncer": "pooled"}
"""Ways from the service to the primary of a cluster."""
KEYED: Final = 0.5
"""Share of rounds in which people send an Idempotency-Key and resend with it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a round."""

    number: int
    faults: list[str]
    kind: Kind
    keyed: bool


def plan_cluster(names: Sequence[str], behind: Sequence[Kind], rounds: int) -> list[Planned]:
    """Choose one fault for each round of a cluster, and the way to the primary, in turn."""
    made = []
    for number in range(rounds):
        turn, place = divmod(number, len(names))
        kind = behind[(turn + place) % len(behind)]
        fault = names[place]
        made.append(Planned(number + 1, [fault], kind, keyed=True))
    return made


def plan(chance: random.Random, names: Sequence[str], rounds: int) -> list[Planned]:
    """Choose the faults of each round at random, so that none is left out."""
    made = []
    for number in range(rounds):
        # Each one is first in turn, so that all get their share.
        first = names[number % len(names)]
        others = [name for name in names if name != first]
        more = chance.choices((0, 1, 2), (4, 3, 2))[0]
        chosen = [first, *chance.sample(others, min(more, len(others)))]
        can_be_embedded = not faults.NEED_PROXY & set(chosen)
        kind: Kind = "embedded" if chance.random() < EMBEDDED and can_be_embedded else "proxied"
        if faults.NEED_EARLIER & set(chosen):
            kind = "earlier"
        made.append(Planned(number + 1, chosen, kind, keyed=chance.random() < KEYED))
    return made


async def run(  # noqa: PLR0913 - by name
    names: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    freeze: float,
    seed: str,
    forgetful: bool,
    results: Path,
    played: list[Round],
    due: float = DUE,
    network: Network | None = None,
    behind: Sequence[Kind] = (),
) -> None:
    """Run the rounds, add each to `played`, and save the histories of those that fail."""
    chance = random.Random(seed)
    lacking = {name: why for name in names if (why := faults.impossible(name))}
    for name, why in lacking.items():
        report.say(f"skipped: {name}: {why}")
    if faults.NEED_EARLIER & set(names) and (version := earlier()) is not None:
        report.say(f"the previous version: {version.told()}")
    usable = [name for name in names if name not in lacking]
    if set(names) <= FAILOVERS.keys():
        planned = plan_cluster(usable, behind, rounds)
    else:
        planned = plan(chance, usable, rounds)
    if forgetful:  # Only the harness's own database allows this.
        planned = [replace(each, kind="proxied") for each in planned if each.kind != "earlier"]
    # One rig for all rounds that can share it.
    left = deque(sorted(planned, key=lambda each: each.kind))
    while left:
        kind = left[0].kind
        async with AsyncExitStack() as stack:
            if kind in WAYS.values():
                ready = await _replicated(kind, stack)
            else:
                own = rig(kind, forgetful=forgetful, chance=chance, network=network)
                ready = await stack.enter_async_context(own)
            people = await ready.register([f"person-{n}" for n in range(PEOPLE)])
            await ready.be_told(people[0])
            knows_keys = await _knows_keys(ready, people[0].token)
            while left and left[0].kind == kind:
                each = left.popleft()
                one = Round(
                    number=each.number,
                    seed=f"{seed}-{each.number}",
                    faults=_possible(each, ready),
                    kind=kind,
                    keyed=each.keyed and knows_keys,
                )
                if not one.faults:
                    continue
                is_well = await _play(ready, people, one, seconds=seconds, freeze=freeze, due=due)
                played.append(one)
                _tell(one, ready, results)
                if not is_well or kind == "earlier":  # The next round gets a new rig.
                    break


async def _replicated(kind: Kind, stack: AsyncExitStack) -> Rig:
    """Start the replicas, twice if need be, because a busy machine may start them too slowly."""
    try:
        return await stack.enter_async_context(replicated(kind))
    except RuntimeError as error:
        report.say(f"tried again: {error}")
        return await stack.enter_async_context(replicated(kind))


async def _play(ready: Rig, people: Sequence[Person], one: Round, **how: float) -> bool:
    """Play a round. If it can't go on, it failed, and the others are played nevertheless."""
    try:
        return await play(ready, people, one, **how)
    except (RuntimeError, TimeoutError, *cluster.LOST) as error:
        one.wrong.append(f"the round ended with {type(error).__name__}: {error}")
        return False


def _possible(each: Planned, ready: Rig) -> list[str]:
    lacking = {name: why for name in each.faults if (why := faults.missing(name, ready))}
    for name, why in lacking.items():
        report.say(f"skipped in round {each.number}: {name}: {why}")
    return [name for name in each.faults if name not in lacking]


def _tell(one: Round, ready: Rig, results: Path) -> None:
    report.say(one.line())
    if one.wrong:
        path = results / f"failed-{one.seed}.json"
        more = {"seed": one.seed, "faults": one.faults, "wrong": one.wrong}
        save(path, one.operations, one.books, **more)
        logs = ready.logs + (ready.nodes.logs if ready.nodes is not None else "")
        path.with_suffix(".log").write_text(logs)
        report.say(f"      its history, and beside it the logs: {path}")


async def _knows_keys(ready: Rig, token: str) -> bool:
    client = ready.client()
    body = {"name": "An event", "totalTickets": 1}

    async def ask() -> Response:
        return await client.request(
            "POST", "/api/events/initialize", body, token=token, key="a-key-of-the-harness"
        )

    try:
        await ask()
        return REPLAYED in (await ask()).headers
    finally:
        client.close()


def _network() -> Network | None:
    """Move this process to its own network, if that is possible."""
    try:
        network = Network()
    except OSError as error:
        report.say(f"network: faults are not possible here: {error}")
        return None
    if not network.has_netem:
        report.say(
            f"network: no netem ({network.lacks}): iptables drops packets, the proxy is late"
        )
    return network


def main() -> None:
    """Run the rounds that the command line asks for. The exit status is 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="two replicas on a cluster of three nodes, which fails over",
    )
    parser.add_argument(
        "--behind", default=",".join(WAYS), help="ways to the primary, separated by commas"
    )
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds before the last fault")
    parser.add_argument("--freeze", type=float, default=10.0, help="seconds of a freeze")
    parser.add_argument("--faults", default="", help="only these, separated by commas")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument(
        "--forgetful",
        action="store_true",
        help="have the database acknowledge before it writes, which the harness must detect",
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    known = FAILOVERS if given.cluster else faults.FAULTS
    names = given.faults.split(",") if given.faults else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such fault: {', '.join(unknown)}")
    behind = given.behind.split(",")
    if unknown := [name for name in behind if name not in WAYS]:
        parser.error(f"no such way to the primary: {', '.join(unknown)}")
    if given.cluster and (lacking := cluster.missing(pooled=True)):
        parser.error(lacking)
    network = _network() if "network" in names else None
    played: list[Round] = []

    async def until_told() -> None:
        # By the loop, as asyncio.run does for SIGINT, because an exception inside a driver's
        # compiled code would end the process without ending the processes that it started.
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await run(
            names,
            rounds=given.rounds,
            seconds=given.seconds,
            freeze=given.freeze,
            seed=given.seed,
            forgetful=given.forgetful,
            results=given.results,
            played=played,
            network=network,
            behind=[WAYS[name] for name in behind],
        )

    was_stopped = False
    try:
        asyncio.run(until_told())
    except asyncio.CancelledError:
        was_stopped = True
    finally:
        name = "cluster.md" if given.cluster else "faults.md"
        report.write(given.results / name, played, seed=given.seed)
    sys.exit(was_stopped or any(each.wrong for each in played))


if __name__ == "__main__":
    main()
