"""Vital-sign store backends."""
