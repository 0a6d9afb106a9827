"""``sightline demo``: simulated cameras with real faces, played through the whole platform.

``script`` says who walks where, ``backdrop`` and ``footage`` paint it, ``play`` runs it through the platform, ``view`` shows what is
seen, ``summary`` holds that against the script.
"""

from cli.demo.command import app

__all__ = ["app"]
