"""HL7 v2 over MLLP: frames without sockets, and the listener."""
