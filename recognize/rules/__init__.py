"""What people decided about names: thresholds at five levels, names that were wrong, and people who have opted out."""
