"""Ids of interactions."""

import base64
import secrets


def new_id() -> str:
    """Make the id of an interaction: 80 random bits, 16 characters that a person can type."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()
