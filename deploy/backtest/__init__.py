"""Backtests beside a running pipeline: the desk, the processes and the CSV reader."""

from typing import Final

NO_RULES: Final = "no rules"
"""What a file is compared with when nothing else is said."""
