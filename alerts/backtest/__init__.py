"""Backtests: alerts that other rules would have raised on stored readings."""
