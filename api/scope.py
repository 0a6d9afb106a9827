"""What of the record somebody may see, from their grants."""

from aiohttp import web

from api.principal import principal
from sightings.alerts_acts import Actor
from sightings.scope import Scope


def scope(request: web.Request) -> Scope:
    """Return the grants of who asks."""
    who = principal(request)
    return Scope(collections=who.collections, watchlists=who.watchlists, camera_groups=who.camera_groups)


def actor(request: web.Request) -> Actor:
    """Return who asks, as histories keep it."""
    who = principal(request)
    return Actor(actor=who.actor, name=who.name)
