"""Devices, credentials, patients' tokens and assignments, opened by several processes."""
