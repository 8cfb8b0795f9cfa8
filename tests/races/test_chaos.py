"""A short run of the fault harness. `make chaos` is the long form."""

from math import inf
from pathlib import Path

import pytest
from chaos.__main__ import run
from chaos.rounds import Round
from chaos.versions import earlier

pytestmark = pytest.mark.usefixtures("unmeasured")


def failures(rounds: list[Round]) -> list[str]:
    return [f"{each.line()} {each.wrong}" for each in rounds if each.wrong]


async def play(results: Path, *faults: str) -> list[Round]:
    played: list[Round] = []
    await run(
        faults,
        rounds=len(faults),
        seconds=1.2,
        freeze=2.0,
        seed="short",
        forgetful=False,
        results=results,
        played=played,
        # The long form, on a machine that runs nothing else, measures the time of recovery.
        due=inf,
    )
    return played


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "faults",
    [
        ("workers", "freeze", "postmaster", "cut"),
        pytest.param(
            ("upgrade",),
            marks=pytest.mark.skipif(
                earlier() is None, reason="the history of the repository is not here"
            ),
        ),
    ],
    ids="+".join,
)
async def test_counters_match_rows_whatever_is_killed_cut_frozen_or_upgraded(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    rounds = await play(tmp_path, *faults)
    assert failures(rounds) == []
    assert len(rounds) == len(faults)
    assert all(each.operations for each in rounds)
    verbs = {operation.verb for each in rounds for operation in each.operations}
    # The earlier version may not know holds.
    holds = set() if "upgrade" in faults else {"hold", "confirm", "extend", "release"}
    assert verbs >= {"book", "cancel", "read"} | holds
