"""Stored jobs, done again without a model, a skill or a network, and compared with the record."""
