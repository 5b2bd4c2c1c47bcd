"""HL7 v2 observations of devices and monitors."""
