"""Logs, metrics, background loops, and progress on a terminal."""
