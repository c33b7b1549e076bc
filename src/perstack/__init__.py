"""Experts declared in `perstack.toml`, run durably and published as MCP tools."""
