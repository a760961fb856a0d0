"""Tools that speak with other machines, over connections that the host has made and checked."""
