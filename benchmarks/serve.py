"""Serve one contender as `ticketing serve` serves the service: `python -m benchmarks.serve NAME`.

Settings come from `TICKETING_*` variables; the database must be up and migrated.
"""

import os
import signal
import socket
import sys
import threading
from functools import partial

from benchmarks.contenders import FACTORIES
from uvicorn.supervisors import Multiprocess

from ticketing.ops import logs
from ticketing.server.admission import Admission
from ticketing.server.serving import server_config
from ticketing.settings import Settings


class _OfEachWorker(Admission):
    """An Admission that a spawned worker makes anew, because its metric can't be pickled."""

    def __reduce__(self) -> tuple[type[Admission], tuple[()]]:
        return Admission, ()


def _stop_with_harness() -> None:
    # The harness holds the other end, and the kernel closes it if the harness ends for any reason.
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Listen, and run the workers until interrupted or standard input ends."""
    settings = Settings.load()
    threading.Thread(target=_stop_with_harness, daemon=True).start()
    logs.configure(settings)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", settings.port))
    listener.listen(2048)
    listener.set_inheritable(True)
    config = server_config(partial(FACTORIES[sys.argv[1]], settings), settings, _OfEachWorker())
    sys.stdout.write(f"  listening  http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    with listener:
        Multiprocess(config, [listener]).run()


if __name__ == "__main__":
    main()
