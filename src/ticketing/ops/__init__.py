"""Logs, metrics, background loops, and progress at a terminal."""
