"""Reads and writes of the database: rate limits."""
