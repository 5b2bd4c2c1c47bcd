"""Reports of continuous glucose sensors: metrics, episodes and the report of one patient."""
