"""Privacy: receipts of erasures, retention, and what is kept of a subject."""
