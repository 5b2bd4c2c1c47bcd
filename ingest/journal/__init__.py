"""Ingest's durable state: identities, device lives, worklists and the ledgers' tally."""
