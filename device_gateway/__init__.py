"""Bytes in, acknowledgement out."""
