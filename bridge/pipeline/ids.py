"""Ids and secrets: the randomness of the stories."""

import base64
import secrets


def new_id() -> str:
    """Make the id of an interaction or event: 80 random bits, 16 characters that a person can type."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def new_webhook_secret() -> str:
    """Make a secret of 32 random bytes, as Standard Webhooks writes it: `whsec_` and base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def new_token_secret() -> str:
    """Make the secret part of an API token: 32 random bytes, fit for a URL."""
    return secrets.token_urlsafe(32)
