"""Models: what they are (spec), where they come from (registry, build), and how they are opened."""
