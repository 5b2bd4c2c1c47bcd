"""Parsers that the adapters share: times, numbers and JSON documents."""
