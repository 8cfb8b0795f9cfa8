"""An account of the operating system that is not the tests' own."""

from ticketing.embedded.account import Account

STRANGER = Account(54321, 54321, {"user": 54321})
"""Another account. It owns nothing here, and may enter folders that are open to all."""
