"""Readings and time against rules: slots, series, kernels, silence, device troubles and scored patients."""
