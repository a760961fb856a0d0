"""Providers of models: who answers an agent. They live in the host; a script never holds a key."""
