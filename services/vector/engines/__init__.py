"""Implementations of VectorStorage. None of them knows the wire."""
