"""Splitters that cut files into payloads for ``vitalgate import``."""
