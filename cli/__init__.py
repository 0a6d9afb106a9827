"""CLI: the sightline command and the standalone composition."""
