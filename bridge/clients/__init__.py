"""Everything we call by HTTP."""
