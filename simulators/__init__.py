"""Synthetic patients and devices, faults, replays of recordings."""
