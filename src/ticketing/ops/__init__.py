"""Logs, metrics, background loops, and progress on a terminal."""

import sys

# structlog would load rich, for a console that `logs` does not use: a twentieth of each start.
if "rich" not in sys.modules and "structlog" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
