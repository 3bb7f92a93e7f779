"""The HTTP service: what Prosody posts, what is asked about our health, what is measured."""
