"""Which rules are in force for whom: programmes, enrolments, decisions and control entries."""
