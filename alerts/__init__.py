"""Vital streams to alerts that someone owns."""
