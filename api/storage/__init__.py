"""Files that come before the request that uses them, and where they are kept."""
