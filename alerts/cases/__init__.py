"""The life of an alert: transitions, the register, escalation ladders, suppressors and subjects."""
