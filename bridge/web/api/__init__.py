"""The REST API `/api/v1` (DESIGN §8)."""
