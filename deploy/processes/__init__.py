"""The processes of a running data directory: supervisor, gateway, core, and the way commands reach them."""
