"""What somebody wanted to hear of."""
