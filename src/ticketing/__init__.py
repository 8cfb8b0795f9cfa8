"""An event ticket booking service that never oversells."""

from importlib.metadata import version

__version__ = version("ticketing")
