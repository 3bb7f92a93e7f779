"""XML, JIDs and IQ stanzas (RFC 6120, RFC 7622); pure."""
