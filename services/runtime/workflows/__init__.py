"""Workflows: what they are, what is wrong with them, how they run and outlive a process."""
