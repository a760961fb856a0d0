"""What the state process answers: messages in, messages out, engines between."""
