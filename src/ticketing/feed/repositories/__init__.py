"""Reads and writes of the database: what happened."""
