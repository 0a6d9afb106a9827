"""Every metric of the platform, in one place. ``sightline_<room>_<thing>_<unit>``; never a subject or a track as label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.8, 1.6, 5.0)


class Metrics:
    """The metrics of one process. Thread rule: any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_ingest()
        self._of_recognize()
        self._of_the_rest()

    def _of_ingest(self) -> None:
        self.camera_up = self._gauge("sightline_ingest_camera_up", "1 while frames arrive from the camera", "camera", "region")
        self.frames_decoded = self._counter("sightline_ingest_frames_decoded_total", "Frames decoded", "camera", "region")
        self.frames_damaged = self._counter(
            "sightline_ingest_frames_damaged_total", "Packets and frames that could not be decoded", "camera", "region"
        )
        self.clock_faults = self._counter(
            "sightline_ingest_clock_faults_total",
            "Timestamps of a stream that were not used (missing, backward, jump, lag), or recordings that fell behind (late)",
            "camera",
            "region",
            "fault",
        )
        self.frames_gated = self._counter(
            "sightline_ingest_frames_gated_total",
            "Gate decisions by reason (motion, hold, heartbeat, still, rate)",
            "camera",
            "region",
            "reason",
        )
        self.frames_dropped = self._counter(
            "sightline_ingest_frames_dropped_total",
            "Frames dropped before the gate's output was accepted, oldest first",
            "camera",
            "region",
        )
        self.frames_published = self._counter(
            "sightline_ingest_frames_published_total", "Gated frames acknowledged by the log", "camera", "region"
        )
        self.reconnects = self._counter("sightline_ingest_reconnects_total", "Camera reconnections by cause", "camera", "region", "cause")

    def _of_recognize(self) -> None:
        self.frames_finished = self._counter(
            "sightline_recognize_frames_finished_total", "Frames whose sightings are acknowledged", "camera", "region"
        )
        self.frames_dead = self._counter(
            "sightline_recognize_frames_dead_lettered_total", "Frames that could not be processed", "camera", "region"
        )
        self.faces_detected = self._counter("sightline_recognize_faces_detected_total", "Faces detected", "camera", "region")
        self.faces_embedded = self._counter("sightline_recognize_faces_embedded_total", "Faces embedded", "camera", "region")
        self.stage_seconds = self._histogram(
            "sightline_recognize_stage_seconds", "Time from the previous stage's end to this one's", "stage"
        )
        self.sighting_seconds = self._histogram("sightline_recognize_sighting_latency_seconds", "Capture to decided sighting", "region")

    def _of_the_rest(self) -> None:
        self.gallery_references = self._gauge("sightline_matcher_references", "References in memory", "collection", "shard")
        self.gallery_generation = self._gauge("sightline_matcher_generation", "Generation of the gallery in memory", "shard")
        self.match_seconds = self._histogram("sightline_matcher_search_seconds", "One search call", "shard")
        self.enrollments = self._counter("sightline_enrollment_photos_total", "Photos by outcome", "outcome")
        self.sightings_stored = self._counter("sightline_sightings_stored_total", "Sighting revisions stored", "camera", "outcome")
        self.sightings_dead = self._counter("sightline_sightings_dead_lettered_total", "Sighting messages that could not be stored")
        self.sightings_expired = self._counter("sightline_sightings_expired_total", "Sightings erased because they were too old")
        self.sightings_retention_ran = self._gauge(
            "sightline_sightings_retention_finished_timestamp_seconds", "When retention last finished"
        )
        self.api_requests = self._counter("sightline_api_requests_total", "Requests by route and status", "route", "method", "status")
        self.api_seconds = self._histogram("sightline_api_request_seconds", "Request time by route", "route")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=STAGE_BUCKETS_S)

    def render(self) -> bytes:
        """Return the exposition text, of CONTENT_TYPE."""
        return generate_latest(self.registry)
