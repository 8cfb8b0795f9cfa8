"""An event ticket booking service that never oversells."""

__version__ = "0.2.0"
