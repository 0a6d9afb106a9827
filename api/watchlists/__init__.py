"""Of whom somebody wants to hear."""
