"""Rules: limits, the nine rule types, protocol syntax, gates, compiling and words."""
