"""The audit: who did what, to whom, and why, in a chain that can be verified."""
