"""Reads and writes of the database: what every route shares."""
