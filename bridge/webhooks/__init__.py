"""Standard Webhooks 1.0: how our messages are signed and what our events say. Pure."""
