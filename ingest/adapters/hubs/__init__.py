"""Formats of hubs and programs that write for vitalgate."""
