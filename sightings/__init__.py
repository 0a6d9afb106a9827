"""Sightings: what was seen, recorded and grouped into episodes."""
