"""Work that takes longer than a request: bulk imports, batch recognition."""
