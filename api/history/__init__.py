"""Where has this face been? And the unknown persons who come back."""
