"""Which cameras hold a live track: the recognizer says so, the gate of that camera stays open at a low rate."""


class LiveTracks:
    """Holds per camera, each until a capture time. Thread rule: written by the recognizer's loop, read by camera threads."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}

    def hold(self, camera: str, until_s: float) -> None:
        """Keep the camera's gate open until this capture time (Unix seconds)."""
        self._until_s[camera] = until_s

    def held(self, camera: str, now_s: float) -> bool:
        """Return whether a track of the camera is alive at now_s."""
        return now_s < self._until_s.get(camera, float("-inf"))
