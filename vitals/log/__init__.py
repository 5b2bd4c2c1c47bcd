"""Log backends."""
