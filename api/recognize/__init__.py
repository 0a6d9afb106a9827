"""Still pictures as a service."""
