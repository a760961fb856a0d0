"""Stores and searches vectors; documents in, passages out."""
