"""FHIR R4 Observations."""
