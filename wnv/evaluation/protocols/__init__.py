"""Protocols: which views are context and targets, and what changes between variants."""
