"""Reads and writes of the database: accounts and access."""
