"""Our own rules: whom we trust, what we admit, what we decide. Pure: everything comes in as arguments."""
