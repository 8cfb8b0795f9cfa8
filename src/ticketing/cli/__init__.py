"""The `ticketing` command: one module for each of its commands."""
