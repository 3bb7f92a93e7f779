"""The Prosody incident bridge: XEP-0268 for Prosody, from the stanza to the operator."""
