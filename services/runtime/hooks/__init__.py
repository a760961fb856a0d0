"""Hooks of the host: code of the operator's around every call that a script makes."""
