"""Adapters of the Model port: wire formats, litellm, and a scripted model without a key."""
