"""The alert book: every event once, decisions with their history, and the rules behind alerts."""
