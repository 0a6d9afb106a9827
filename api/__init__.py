"""API: aiohttp handlers, live events, OpenAPI."""
