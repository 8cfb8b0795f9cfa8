"""An event ticket booking service that never oversells."""

__version__ = "0.1.0"
