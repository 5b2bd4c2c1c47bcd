"""Jobs of commands: import, demo, trial of an adapter, a package for a new adapter."""
