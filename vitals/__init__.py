"""The shared language: vital signs, units, streams, and the ports every service talks through."""
