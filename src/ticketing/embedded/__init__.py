"""PostgreSQL for local use, and backups of it."""
