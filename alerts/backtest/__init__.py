"""What other rules would have said of stored readings."""
