"""SQL of stored responses."""
