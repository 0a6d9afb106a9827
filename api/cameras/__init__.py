"""Which cameras there are, and how they are."""
