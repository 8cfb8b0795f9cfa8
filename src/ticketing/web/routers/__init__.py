"""Routes: what every route shares."""
