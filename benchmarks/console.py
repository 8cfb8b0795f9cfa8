"""Console output and exit status of every run."""

import signal
import sys
import time
from collections.abc import Callable

from benchmarks.ground import BooksWrongError, CannotRunError


def say(text: str) -> None:
    """Print a line with the time of day to standard error, without buffering."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def status_of(run: Callable[[], None]) -> int:
    """Run it and return the exit status: 0, 1 if it fails, 130 if it is interrupted.

    SIGTERM interrupts it as Ctrl-C does, so that it ends everything that it started.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run()
    except BooksWrongError as error:
        print(f"RESPONSES AND ROWS DIFFER: {error}", file=sys.stderr)
        return 1
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
