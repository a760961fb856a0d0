"""Text to vectors: the Protocol, its providers, and the cache before them."""
