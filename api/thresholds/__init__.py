"""Which score names somebody, at five levels, and why."""
