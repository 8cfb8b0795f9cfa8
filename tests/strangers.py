"""An account of the operating system that is not the one of the tests."""

from ticketing.embedded.account import Account

STRANGER = Account(54321, 54321, {"user": 54321})
"""Another account: it owns nothing here, and may enter what is open to all."""
