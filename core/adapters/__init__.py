"""Adapters: libraries of the outside world behind our ports; their errors become ours."""
