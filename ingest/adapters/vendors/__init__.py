"""Answers of vendors' clouds."""
