"""What happened: the readers of the facts that commits write."""
