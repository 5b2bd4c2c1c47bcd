"""Anomaly scores for any plain series, row by row."""
