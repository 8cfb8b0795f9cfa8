"""The `ticketing` command: a module for each of its commands."""
