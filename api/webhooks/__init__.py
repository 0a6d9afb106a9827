"""Webhooks: what happens, posted to other systems."""
