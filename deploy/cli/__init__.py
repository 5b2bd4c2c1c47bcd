"""The ``vitalgate`` command, one module per group of commands."""
