"""Accounts, sessions, API keys, permissions and the teams of events."""
