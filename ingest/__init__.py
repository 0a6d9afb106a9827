"""Ingest: a camera becomes gated frames."""
