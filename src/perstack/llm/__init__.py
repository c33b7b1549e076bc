"""Adapters of the Model port: litellm for providers, and a scripted model that needs no key."""
