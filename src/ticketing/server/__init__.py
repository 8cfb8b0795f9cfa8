"""The server: the supervisor, its workers, and HTTP on their connections."""
