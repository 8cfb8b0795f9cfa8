"""What an operator sees and what runs by itself: logs, metrics, background loops."""
