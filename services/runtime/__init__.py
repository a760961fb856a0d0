"""Runs tenants' Lua scripts in worker processes."""
