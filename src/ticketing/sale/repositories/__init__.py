"""Reads and writes of the database: the sale."""
