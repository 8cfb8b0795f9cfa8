"""`make model`: compare the decisions with the model in generated stories, for about a minute.

The stories are those of `tests/sale/unit/test_offers.py`, which is the short form. A difference is
shrunk to the shortest story that shows it.
"""

import argparse
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, given, seed, settings

from tests.sale.unit.stories import Story, stories, tell

AT_ONCE = 500
"""Stories of one seed."""


def main() -> int:
    """Tell stories until there were enough requests and changes."""
    parser = argparse.ArgumentParser(prog="python -m tests.decisions", description=__doc__)
    parser.add_argument("--steps", type=int, default=50_000, help="requests and changes")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="to repeat a run")
    given_args = parser.parse_args()
    print(f"seed {given_args.seed}")
    started = time.monotonic()
    told: Counter[str] = Counter()
    number = given_args.seed
    while told["requests and changes"] < given_args.steps:
        tell_some(number, told)
        number += 1
    seconds = time.monotonic() - started
    for what in ("stories", "requests and changes", "decisions"):
        print(f"{told.pop(what):7,} {what}")
    print("Outcomes of requests, and (in parentheses) what happened to bookings:")
    for name, times in told.most_common():
        print(f"{times:7,} {name}")
    print(f"No difference from the model, in {seconds:.0f} s.")
    return 0


def tell_some(number: int, told: Counter[str]) -> None:
    """Tell some stories, and count what happens in them. Raises if there is a difference."""

    @seed(number)
    @settings(
        max_examples=AT_ONCE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(stories)
    def story_is_as_the_model_tells(story: Story) -> None:
        done = tell(story)
        told.update(done.outcomes)
        told["stories"] += 1
        told["requests and changes"] += story.length
        told["decisions"] += done.decisions

    story_is_as_the_model_tells()


if __name__ == "__main__":
    sys.exit(main())
