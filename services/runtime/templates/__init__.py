"""Templates: agents and workflows that are ready to use, each one readable Lua file."""
