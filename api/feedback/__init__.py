"""Names that were wrong, and names that were right."""
