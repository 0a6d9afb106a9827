"""What is published over MQTT: topics and payloads, of our own, of Home Assistant's discovery, and of Double Take. Pure.

Sources: https://www.home-assistant.io/integrations/mqtt (discovery); github.com/jakowenko/double-take, README (its topics).
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from core.adapters.mqtt import Message
from sightings.record import StoredAlert, StoredSighting, at

STEEPNESS: Final = 20.0
"""Of the confidence that Double Take's clients get: 90 % at the threshold, 98 % a tenth of cosine above, 55 % a tenth below."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_NOT_IN_TOPICS = re.compile(r"[+#/\x00-\x1f\x7f]")
ONLINE, OFFLINE = b"online", b"offline"


def status_topic(prefix: str) -> str:
    """Return where it says whether we are there: ``online`` or ``offline``."""
    return f"{prefix}/status"


def sighting_message(prefix: str, stored: StoredSighting) -> Message:
    """Return a sighting as it is published."""
    sighting = stored.sighting
    names = ("sighting_id", "camera", "region", "collection", "outcome", "reason", "subject_id", "subject", "score", "threshold", "quality")
    body: dict[str, Any] = {name: getattr(sighting, name) for name in names}
    body |= {"first_at": at(sighting.first_s), "last_at": at(sighting.last_s), "closed": sighting.closed, "revision": sighting.revision}
    body["thumbnail"] = f"/v1/sightings/{sighting.sighting_id}/thumbnail.jpg" if stored.has_thumbnail else None
    return _json(f"{prefix}/{sighting.camera}/sighting", body)


def person_topic(prefix: str, camera: str) -> str:
    """Return where the name of the last person of a camera is kept."""
    return f"{prefix}/{camera}/person"


def alert_message(prefix: str, alert: StoredAlert) -> Message:
    """Return an alert as it is published."""
    names = ("alert_id", "watchlist", "camera", "subject_id", "subject", "sighting_id", "score", "state", "version")
    body: dict[str, Any] = {name: getattr(alert, name) for name in names}
    body |= {f"{name}_at": at(getattr(alert, f"{name}_s")) for name in ("first", "last", "raised")}
    return _json(f"{prefix}/alert/{alert.watchlist}", body)


def occupancy_messages(prefix: str, camera: str, outcomes: Mapping[str, int], *, double_take: bool) -> list[Message]:
    """Return whether somebody known and somebody unknown is in view of a camera; kept by the broker, for they name nobody."""
    found = [
        Message(topic=f"{prefix}/{camera}/{name}", payload=b"ON" if outcomes.get(outcome) else b"OFF", retain=True)
        for name, outcome in (("known", "subject"), ("unknown", "stranger"))
    ]
    if double_take:
        people = sum(outcomes.get(outcome, 0) for outcome in ("subject", "stranger"))
        found.append(Message(topic=f"double-take/cameras/{camera}/person", payload=str(people).encode(), retain=True))
    return found


def double_take_messages(stored: StoredSighting) -> list[Message]:
    """Return what Double Take would publish of a face that was judged."""
    sighting = stored.sighting
    if sighting.outcome == "unclear":
        return []
    named = sighting.outcome == "subject"
    x1, y1, x2, y2 = (round(value) for value in sighting.best_box)
    seconds = round(max(0.0, sighting.times.decided_s - sighting.times.captured_s), 2)
    face = {
        "name": sighting.subject if named else "unknown",
        "confidence": confidence(sighting.score, sighting.threshold),
        "match": named,
        "box": {"top": y1, "left": x1, "width": x2 - x1, "height": y2 - y1},
        "type": "sightline",
        "duration": seconds,
        "detector": "sightline",
        "filename": f"{sighting.sighting_id}.jpg",
        "base64": None,
    }
    base = {
        "id": sighting.sighting_id,
        "duration": seconds,
        "timestamp": _javascript(at(sighting.best_s)),
        "attempts": max(1, sighting.faces),
        "camera": sighting.camera,
        "zones": [],
    }
    matches, unknowns = ([face], []) if named else ([], [face])
    counts = {"person": 1, "match": len(matches), "miss": 0, "unknown": len(unknowns)}
    lists = {"matches": matches, "misses": [], "unknowns": unknowns}
    own = {"match": face} if named else {"unknown": face, "unknowns": unknowns}
    topic = topic_level(sighting.subject or "") if named else "unknown"
    return [
        _json(f"double-take/matches/{topic}", base | own),
        _json(f"double-take/cameras/{sighting.camera}", base | lists | {"personCount": 1, "counts": counts}),
    ]


def confidence(score: float | None, threshold: float) -> float:
    """Return a score as per cent, as Double Take's clients compare it: 90 at the threshold."""
    return 0.0 if score is None else round(100 / (1 + math.exp(-(math.log(9) + STEEPNESS * (score - threshold)))), 2)


def topic_level(name: str) -> str:
    """Return a name as a level of a topic: blanks become dashes, what topics mean something with goes."""
    return _NOT_IN_TOPICS.sub("", re.sub(r"\s+", "-", name.strip())) or "unnamed"


def camera_discovery(discovery: str, prefix: str, camera: str) -> list[Message]:
    """Return what makes Home Assistant show a camera: a device with the last person, and whether somebody is in view."""
    node = f"sightline_{_slug(camera)}"
    device = {
        "identifiers": [node],
        "name": f"Sightline {camera}",
        "manufacturer": "Sightline",
        "model": "Camera",
        "via_device": "sightline",
    }

    def entity(component: str, name: str, title: str, more: dict[str, Any]) -> Message:
        own = {"name": title, "unique_id": f"{node}_{name}", "object_id": f"{node}_{name}", "state_topic": f"{prefix}/{camera}/{name}"}
        return _json(f"{discovery}/{component}/{node}/{name}/config", own | _common(prefix) | {"device": device} | more, retain=True)

    occupancy = {"device_class": "occupancy", "payload_on": "ON", "payload_off": "OFF"}
    return [
        entity("sensor", "person", "Last person", {"icon": "mdi:face-recognition", "json_attributes_topic": f"{prefix}/{camera}/sighting"}),
        entity("binary_sensor", "known", "Known person", occupancy),
        entity("binary_sensor", "unknown", "Unknown person", occupancy),
    ]


def platform_discovery(discovery: str, prefix: str) -> list[Message]:
    """Return what makes Home Assistant show the platform itself."""
    device = {"identifiers": ["sightline"], "name": "Sightline", "model": "Face recognition"} | _MAKER
    body = {
        "name": "Connection",
        "unique_id": "sightline_status",
        "object_id": "sightline_status",
        "state_topic": status_topic(prefix),
        "payload_on": ONLINE.decode(),
        "payload_off": OFFLINE.decode(),
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "device": device,
        "origin": _ORIGIN,
    }
    return [_json(f"{discovery}/binary_sensor/sightline/status/config", body, retain=True)]


_ORIGIN: Final = {"name": "Sightline"}
_MAKER: Final = {"manufacturer": "Sightline"}


def _common(prefix: str) -> dict[str, Any]:
    return {
        "availability_topic": status_topic(prefix),
        "payload_available": ONLINE.decode(),
        "payload_not_available": OFFLINE.decode(),
        "origin": _ORIGIN,
    }


def _slug(camera: str) -> str:
    """Return a camera's name as Home Assistant takes it in topics and ids; two cameras never get the same."""
    safe = _UNSAFE.sub("_", camera)
    return safe if safe == camera else f"{safe}_{zlib.crc32(camera.encode()):08x}"


def _javascript(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def _json(topic: str, body: Mapping[str, Any] | Sequence[Any], *, retain: bool = False) -> Message:
    return Message(topic=topic, payload=msgspec.json.encode(body), retain=retain)
