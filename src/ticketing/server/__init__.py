"""The supervisor, its workers, and HTTP on their connections."""
