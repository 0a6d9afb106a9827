"""Matcher: a shard of the gallery in memory, and the client that asks it."""
