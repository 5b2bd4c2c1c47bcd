"""Every property test draws the same examples on every machine, and none fails for being slow on a busy one."""

from hypothesis import settings

settings.register_profile("vitalgate", derandomize=True, deadline=None)
settings.load_profile("vitalgate")
