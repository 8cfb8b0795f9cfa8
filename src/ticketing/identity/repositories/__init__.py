"""SQL of accounts and access."""
