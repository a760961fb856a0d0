"""The four processes of LLMSpell and what they share."""
