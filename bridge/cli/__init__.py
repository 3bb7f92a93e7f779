"""The command line: data on stdout, messages on stderr, what to do next in every message."""
