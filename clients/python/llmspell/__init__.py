"""Client for LLMSpell."""
