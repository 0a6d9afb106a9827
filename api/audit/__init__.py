"""The audit: kept around every request that touches people, and shown to those who may see it."""
