"""What the processes of a server have agreed on."""

import signal
from typing import Final

RETIRE: Final = signal.SIGUSR1
"""Tells a process to leave while others go on: it stops accepting at once, and stays ready."""
GRACE: Final = 30
"""Seconds that requests under way get to finish when the service stops."""
LINGER: Final = 1.0
"""Seconds after the last accept in which connections that are open may still send a request."""
BACKLOG: Final = 65_535
"""Connections that wait to be taken, or as many as the system allows: one more waits a second."""
