"""Constants that the supervisor and its workers share."""

import signal
from typing import Final

RETIRE: Final = signal.SIGUSR1
"""Signal for one worker to stop while others go on: it stops accepting at once, and stays ready."""
GRACE: Final = 30
"""Seconds in which requests under way must finish when the service stops."""
LINGER: Final = 1.0
"""Seconds after the last accept in which open connections may still send a request."""
BACKLOG: Final = 65_535
"""Connections that wait to be accepted, or as many as the system allows. One more waits a
second."""
