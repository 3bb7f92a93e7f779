"""Incident documents (RFC 5070); pure."""
