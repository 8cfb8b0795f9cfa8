"""The start of the `ticketing` command and of `python -m ticketing`, light and quiet."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command; interrupted while it is still being loaded, it leaves without a word."""
    # Whoever starts it may have metrics of their own to share; ours go elsewhere.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from ticketing.cli import main as cli  # noqa: PLC0415 - takes a second

    cli.main()


def _leave(number: int, _frame: FrameType | None) -> None:
    # Not by an exception, which would arise in the midst of an import. Nothing is open yet.
    os._exit(128 + number)


if __name__ == "__main__":
    main()
