"""What the vector process answers: messages in, messages out, engines between."""
