"""Routes of accounts and access."""
