"""Tools that read programs."""
