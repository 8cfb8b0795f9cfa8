"""The rules at the door: by example, and the same on a device."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import ticketing.web
from ticketing.door.rules import SAY, Case, Use, Verdict, judge, standing, window

STATIC = Path(ticketing.web.__file__).parent / "static" / "door"
NODE = shutil.which("node")
SEED = 20261130
EVENT: dict[str, Any] = {"id": 1, "status": "published", "startsAt": 7200, "endsAt": 9000}
RULES: dict[str, Any] = {
    "name": "main",
    "ticketTypes": None,
    "reentry": False,
    "opensBefore": 60,
    "needsPayment": False,
}
TICKET: dict[str, Any] = {
    "type": 1,
    "generation": 1,
    "status": "valid",
    "owes": False,
    "from": None,
    "until": None,
    "uses": {},
}
INSIDE = {"main": {"inside": True, "at": 1, "gate": None}}
OUTSIDE = {"main": {"inside": False, "at": 1, "gate": None}}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "admitted"),
        ({"code": {"event": 2, "generation": 1}}, "wrong_event"),
        ({"ticket": None}, "unknown_ticket"),
        ({"ticket": None, "offline": True}, "ask_online"),
        ({"ticket": TICKET | {"status": "cancelled"}}, "cancelled"),
        ({"event": EVENT | {"status": "cancelled"}}, "cancelled"),
        ({"code": {"event": 1, "generation": 2}}, "revoked"),
        ({"rules": RULES | {"ticketTypes": [2]}}, "wrong_type_for_gate"),
        ({"rules": RULES | {"needsPayment": True}, "ticket": TICKET | {"owes": True}}, "unpaid"),
        ({"ticket": TICKET | {"owes": True}}, "admitted"),
        ({"direction": "out"}, "not_inside"),
        ({"direction": "out", "ticket": TICKET | {"uses": INSIDE}}, "left"),
        ({"at": 3599.9}, "too_early"),
        ({"at": 3600.0}, "admitted"),
        ({"at": 8999.9}, "admitted"),
        ({"at": 9000.0}, "too_late"),
        ({"at": 0.0, "rules": RULES | {"opensBefore": None}}, "admitted"),
        ({"at": 0.0, "ticket": TICKET | {"until": 1}}, "admitted"),
        ({"at": 9999.0, "ticket": TICKET | {"from": 1}}, "admitted"),
        ({"at": 0.0, "ticket": TICKET | {"from": 1}}, "too_early"),
        ({"ticket": TICKET | {"uses": INSIDE}}, "already_used"),
        ({"ticket": TICKET | {"uses": OUTSIDE}}, "already_used"),
        ({"ticket": TICKET | {"uses": {"other": INSIDE["main"]}}}, "admitted"),
        ({"ticket": TICKET | {"uses": OUTSIDE}, "rules": RULES | {"reentry": True}}, "admitted"),
        ({"ticket": TICKET | {"uses": INSIDE}, "rules": RULES | {"reentry": True}}, "already_used"),
    ],
)
def test_the_first_rule_that_applies_decides(more: dict[str, Any], expected: str) -> None:
    case: dict[str, Any] = {"event": EVENT, "rules": RULES, "ticket": TICKET, "code": None}
    assert judge(Case(**case | {"direction": "in", "at": 7200.0} | more)) == expected


def test_the_window_says_whose_times_it_has() -> None:
    assert window(EVENT, RULES, TICKET) == (3600, 9000, "event")
    assert window(EVENT, RULES, TICKET | {"from": 5}) == (5, None, "ticket")


def test_every_verdict_says_what_to_do() -> None:
    assert SAY.keys() == set(Verdict)


def uses(*said: str) -> list[Use]:
    """Return passages from texts such as `in 5`."""
    return [
        Use(each.split()[0], float(each.split()[1]), None, UUID(int=number))
        for number, each in enumerate(said)
    ]


@pytest.mark.parametrize(
    ("said", "reentry", "inside", "conflicts"),
    [
        ([], False, None, []),
        (["in 1"], False, True, []),
        (["in 2", "in 1"], False, True, [0]),
        (["in 1", "out 2"], True, False, []),
        (["in 1", "out 2", "in 3"], True, True, []),
        (["in 1", "out 2", "in 3"], False, True, [2]),
        (["out 1"], True, None, [0]),
        (["in 3", "out 2", "in 1"], True, True, []),
    ],
)
def test_passages_count_in_the_order_in_which_they_happened(
    said: list[str], *, reentry: bool, inside: bool | None, conflicts: list[int]
) -> None:
    stood, found = standing(uses(*said), reentry=reentry)
    assert (None if stood is None else stood.inside) is inside
    assert found == {UUID(int=each) for each in conflicts}


def draw(chance: random.Random) -> dict[str, Any]:
    """Make a case. Hypothesis would take fifty times as long, and nothing has to be shrunk."""
    pick = chance.choice
    times = [None, None, None, 0, 1, 2, 3, 4]
    event = {
        "id": 1,
        "status": pick(["published", "published", "draft", "cancelled"]),
        "startsAt": pick(times),
        "endsAt": pick(times),
    }
    rules = {
        "name": pick(["main", "other"]),
        "ticketTypes": pick([None, None, [1], [1, 2]]),
        "reentry": pick([False, True]),
        "opensBefore": pick([None, 0, 1]),
        "needsPayment": pick([False, True]),
    }
    ticket = {
        "type": pick([1, 2]),
        "generation": pick([1, 1, 2]),
        "status": pick(["valid", "valid", "valid", "cancelled"]),
        "owes": pick([False, True]),
        "from": pick(times),
        "until": pick(times),
        "uses": {
            name: {"inside": pick([False, True]), "at": 1, "gate": pick([None, "N"])}
            for name in ("main", "other")
            if pick([False, True])
        },
    }
    return {
        "event": event,
        "rules": rules,
        "ticket": pick([None, ticket, ticket]),
        "code": pick([None, {"event": pick([1, 1, 1, 2]), "generation": pick([1, 1, 2])}]),
        "direction": pick(["in", "in", "out"]),
        "at": pick(times[3:]),
        "offline": pick([False, True]),
    }


@pytest.mark.skipif(NODE is None, reason="there is no Node.js")
def test_a_device_judges_every_case_as_the_service_does(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    cases = [draw(chance) for _ in range(10_000)]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "rules.mjs").write_text((STATIC / "rules.js").read_text())
    (tmp_path / "run.mjs").write_text(
        'import { readFileSync } from "node:fs";\nimport { admits, judge } from "./rules.mjs";\n'
        'const cases = JSON.parse(readFileSync("cases.json"));\n'
        "console.log(JSON.stringify(cases.map((each) => [judge(each), "
        "each.ticket && Object.values(admits(each.event, each.rules, each.ticket))])));\n"
    )
    done = subprocess.run(
        [str(NODE), "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = []
    for each in cases:
        ticket = each["ticket"]
        admits = ticket and list(window(each["event"], each["rules"], ticket))
        found.append([judge(Case(**each)), admits])
    assert json.loads(done.stdout) == found
    assert {verdict for verdict, _ in found} == set(Verdict) - {Verdict.INVALID_CODE}
