"""`make mutants`: write which mutants of the last run no test noticed to tests/results/mutants.md.

Fails if one of them is not explained in EXPLAINED, or if fewer than nine of ten were noticed.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

LEAST: Final = 0.9
MUTMUT: Final = str(Path(sys.executable).with_name("mutmut"))
RESULTS: Final = Path(__file__).parent / "results" / "mutants.md"
LONGER: Final = "Both sequences have the same length: one number for each quota or type."
NO_TICKETS: Final = "At a plain event nobody who waits gets tickets, so no id is made."
PRICED: Final = (
    "There is one price for each place, and one place with a price if there is an amount."
)
HAS_END: Final = "A hold or an offer has an end."
SAVES_WORK: Final = "It only saves work."
IN_ORDER: Final = "The numbers are compared, and nothing else."
EXPLAINED: Final = {
    "zip(before, after, strict=None)": LONGER,
    "zip(before, after, )": LONGER,
    "zip(before, after, strict=False)": LONGER,
    "amount_off or 1 if percent is None": "A discount has one of the two.",
    "for slot in range(len(held) + 2)": "A free number is found before.",
    "if held.expires_at is None and not held.status.keeps": HAS_END,
    "if self.count or self._available[0]": SAVES_WORK,
    "if (kind.tax_rate) or True else 0": SAVES_WORK,
    "zip(kinds, prices(lines, code), strict=None)": PRICED,
    "zip(kinds, prices(lines, code), )": PRICED,
    "zip(kinds, prices(lines, code), strict=False)": PRICED,
    "for kind in kinds if kind.amount), ) if amount": PRICED,
    "State(snapshot, Reading(line=line, due=None), at=at, new_id=None)": NO_TICKETS,
    "State(snapshot, Reading(due=None), at=at, new_id=None)": "Nobody is promoted: no id is made.",
    "self._taken: list[int] = None": "Without counters, only its truth is looked at.",
    "self._last = 1": IN_ORDER,
    "self._last += 2": IN_ORDER,
    "Decision(snapshot, None)": "`decided` replaces the state after the requests.",
    "if (terms.are_plain) and False else": "The sale of a plain event is open at any time.",
    "[2] * len(weights)": "Equal weights give equal shares, whatever they are.",
    "errors = _out_of_order(": "There are no errors before.",
    "alone = Details(None, timezone=details.timezone)": "Only the start is looked at.",
    "if details.starts is None and starts is None:": "Then `shifted` keeps the other times too.",
}
"""Parts of the changed line, each with the reason why the change makes no difference."""


class Mutant(NamedTuple):
    """A mutant that no test noticed."""

    name: str
    was: str
    now: str

    @property
    def reason(self) -> str | None:
        """Why it makes no difference, if this is known."""
        return next((why for part, why in EXPLAINED.items() if part in self.now), None)


def run(*words: str) -> str:
    return subprocess.run([MUTMUT, *words], check=True, capture_output=True, text=True).stdout


def mutant(name: str) -> Mutant:
    """Return the mutant with the lines that it changes."""
    changed = [line for line in run("show", name).splitlines() if line[:1] in {"-", "+"}]
    # The first two lines name the file.
    was, now = (
        " ".join(line[1:].strip() for line in changed[2:] if line[0] == sign) for sign in "-+"
    )
    return Mutant(name, was, now)


def main() -> int:
    """Write the results of the last run."""
    lines = run("results", "--all", "true").strip().splitlines()
    results = dict(line.strip().split(": ") for line in lines)
    unchecked = [name for name, how in results.items() if how == "not checked"]
    for name in unchecked:
        del results[name]
    if not results:
        print("No mutant was tested, because the tests fail without one: see `mutmut run`.")
        return 1
    alive = [mutant(name) for name, how in results.items() if how not in {"killed", "timeout"}]
    made = Counter(name.rsplit(".", 1)[0] for name in results)
    left = Counter(each.name.rsplit(".", 1)[0] for each in alive)
    share = 1 - len(alive) / len(results)
    told = f"{len(results) - len(alive):,} of {len(results):,} mutants were noticed ({share:.1%})."
    if unchecked:
        told += f" The run did not reach {len(unchecked)} others."
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        "\n".join(
            [
                f"# Mutants\n\nWritten by `make mutants`. {told}\n",
                "| module | mutants | not noticed |\n|---|--:|--:|",
                *(f"| `{module}` | {made[module]} | {left[module]} |" for module in sorted(made)),
                "\n| was | not noticed | why it makes no difference |\n|---|---|---|",
                *(f"| `{each.was}` | `{each.now}` | {each.reason or '**?**'} |" for each in alive),
                "",
            ]
        )
    )
    unexplained = [each for each in alive if each.reason is None]
    for each in unexplained:
        print(f"{each.name}\n- {each.was}\n+ {each.now}\n")
    print(told)
    return 1 if unchecked or unexplained or share < LEAST else 0


if __name__ == "__main__":
    sys.exit(main())
