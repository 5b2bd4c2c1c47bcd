"""Exports that people make: files of apps and reporting sites."""
