"""The host's side of tools: which there are, who may execute them, and their execution."""
