"""Who may do what: API keys, users, sessions, tokens of an identity provider, limits."""
