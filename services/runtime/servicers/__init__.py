"""What the runtime answers."""
