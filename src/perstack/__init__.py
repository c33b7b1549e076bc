"""Experts declared in `perstack.toml`, run durably and published as MCP tools."""

__version__ = "0.1.0"
