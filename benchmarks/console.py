"""What every run says on the console, and the status that it ends with."""

import signal
import sys
import time
from collections.abc import Callable

from benchmarks.ground import BooksWrongError, CannotRunError


def say(text: str) -> None:
    """Print a line about progress to standard error at once, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def status_of(run: Callable[[], None]) -> int:
    """Run it and return the exit status: 0, 1 if it fails, 130 if it is interrupted.

    SIGTERM interrupts it as Ctrl-C does, so that whatever it started is ended.
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
