"""Bluetooth health profiles."""
