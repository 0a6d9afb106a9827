"""Recognize: frames in, sightings out."""
