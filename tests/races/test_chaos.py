"""The fault harness in short: `make chaos` is the long form."""

from pathlib import Path

import pytest
from chaos.__main__ import run
from chaos.rounds import Round

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
        keys=False,
        forgetful=False,
        results=results,
        played=played,
    )
    return played


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "faults",
    [("cut", "freeze"), ("workers", "postmaster")],
    ids="+".join,
)
async def test_the_books_are_right_whatever_is_killed_cut_or_frozen(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    rounds = await play(tmp_path, *faults)
    assert failures(rounds) == []
    assert len(rounds) == len(faults)
    assert all(each.operations for each in rounds)
