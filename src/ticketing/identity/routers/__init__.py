"""Routes: accounts and access."""
