"""The MQTT ingest endpoint: codec and session without I/O, server with sockets."""
