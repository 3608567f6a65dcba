"""What of an encoder is trained, and what is added to it for that."""
