"""Health, metrics, the description of the API, and the web pages."""
