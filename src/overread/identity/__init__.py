"""Identity: who is signing in."""
