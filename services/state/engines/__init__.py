"""Implementations of Engine. None of them knows the wire, or what is kept in it."""
