"""Benchmarks: ``vitalgate bench NAME``. Workloads and figures: docs/benchmarks.md."""
