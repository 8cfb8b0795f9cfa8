"""SQL of the sale."""
