"""Watching the pipeline itself: readiness, metrics, the watchdog and the canary."""
