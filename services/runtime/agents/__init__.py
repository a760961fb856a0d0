"""Agents: a provider's model with instructions, tools and a conversation."""
