"""Raw bytes to normalised, flagged vital signs."""
