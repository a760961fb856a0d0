"""Implementations of StateManager. None of them knows the wire."""
