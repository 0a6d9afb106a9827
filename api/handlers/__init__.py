"""Handlers: read the request, call one room, shape the answer. No logic of their own."""
