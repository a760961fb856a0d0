"""Keeps scoped state."""
