"""Backups: made of one view while writers go on, verified, restored into a running system."""
