"""The stories: load → decide → commit, or load → call out → commit."""
