"""Every metric of the platform, in one place. ``sightline_<room>_<thing>_<unit>``; never a subject or a track as label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.8, 1.6, 5.0)


class Metrics:
    """The metrics of one process. Thread rule: any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU time and open files of the process
        self._of_ingest()
        self._of_recognize()
        self._of_log()
        self._of_matcher()
        self._of_broker()
        self._of_the_rest()
        self._of_jobs()

    def _of_broker(self) -> None:
        self.broker_connected = self._gauge("sightline_broker_connected", "1 while connected to RabbitMQ (publish, consume)", "connection")
        self.broker_connections_lost = self._counter(
            "sightline_broker_connections_lost_total", "Connections to RabbitMQ that were lost and opened again", "connection"
        )
        self.broker_blocked = self._gauge("sightline_broker_blocked", "1 while RabbitMQ blocks publishers (short of memory or disk)")
        self.broker_messages = self._counter(
            "sightline_broker_messages_total", "Messages by direction (published, delivered, redelivered)", "direction"
        )
        self.broker_publish_failures = self._counter(
            "sightline_broker_publish_failures_total",
            "Messages not published, or not known to be, by cause (unreachable, blocked, full, refused, timeout, lost)",
            "cause",
        )

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
        self._of_fleet_ingest()

    def _of_fleet_ingest(self) -> None:
        self.leases = self._gauge("sightline_ingest_leases", "Cameras that this ingester holds")
        self.leases_moved = self._counter(
            "sightline_ingest_leases_moved_total", "Cameras taken, given to another ingester, or lost to one (while it was silent)", "way"
        )
        self.cameras_free = self._gauge("sightline_ingest_cameras_free", "Enabled cameras that no ingester runs, as this one sees it")
        self.ingesters = self._gauge("sightline_ingest_ingesters", "Live ingesters, as this one sees it")
        self.publish_failures = self._counter(
            "sightline_ingest_publish_failures_total", "Attempts to publish a frame that the log did not acknowledge", "region"
        )
        self.spool_frames = self._gauge("sightline_ingest_spool_frames", "Frames on disk that the log has not acknowledged yet")
        self.spool_bytes = self._gauge("sightline_ingest_spool_bytes", "Size of the spool's files")
        self.frames_spooled = self._counter("sightline_ingest_frames_spooled_total", "Frames that were put on disk", "camera", "region")
        self.frames_drained = self._counter(
            "sightline_ingest_frames_drained_total", "Frames that came from disk and were acknowledged by the log", "camera", "region"
        )
        self.frames_lost = self._counter(
            "sightline_ingest_frames_lost_total",
            "Accepted frames that never reached the log, by reason (old, damaged, refused, full)",
            "camera",
            "region",
            "reason",
        )

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
            "sightline_recognize_stage_seconds",
            "Time from the previous stage's end to this one's, a frame: publish (from capture), queue, decode, wait, detect, embed, match, "
            "decide, ack; recognize = from publish to ack",
            "stage",
        )
        self.sighting_seconds = self._histogram("sightline_recognize_sighting_latency_seconds", "Capture to decided sighting", "region")
        self.matcher_waiting = self._gauge("sightline_recognize_matcher_waiting", "1 while frames wait because no shard answers")
        self.matcher_waited = self._counter("sightline_recognize_matcher_wait_seconds_total", "Time that frames waited for a matcher")
        self.incomplete = self._gauge(
            "sightline_recognize_sightings_incomplete", "Sightings decided without every shard, to be asked again"
        )
        self.completed = self._counter("sightline_recognize_sightings_completed_total", "Sightings asked again and answered by every shard")
        self.incomplete_dropped = self._counter(
            "sightline_recognize_sightings_incomplete_dropped_total", "Incomplete sightings given up, oldest first, because too many waited"
        )
        self.opted_out = self._counter(
            "sightline_recognize_opted_out_total", "Tracks dropped because they are people who have opted out", "camera", "region"
        )
        self.frames_repeated = self._counter(
            "sightline_recognize_frames_repeated_total",
            "Frames that came again and were finished without a second look",
            "camera",
            "region",
        )
        self.time_lines = self._counter(
            "sightline_recognize_time_lines_total",
            "Times that frames of a camera came out of order and were tracked on their own",
            "camera",
            "region",
        )

    def _of_log(self) -> None:
        self.log_publish_seconds = self._histogram("sightline_log_publish_seconds", "Publish to acknowledgement", "topic")
        self.log_publish_failures = self._counter(
            "sightline_log_publish_failures_total", "Records that were not acknowledged, by cause", "topic", "cause"
        )
        self.log_lag = self._gauge("sightline_log_lag_records", "Records of this process's partitions not yet finished", "topic", "group")
        self.log_buffered = self._gauge("sightline_log_buffered_records", "Records fetched and not yet handed out", "group")
        self.log_in_flight = self._gauge("sightline_log_in_flight_records", "Records handed out and not yet finished", "group")
        self.log_partitions = self._gauge("sightline_log_partitions", "Partitions that this process reads", "group")
        self.log_paused = self._gauge("sightline_log_paused_partitions", "Partitions that wait because the buffer is full", "group")
        self.log_rebalances = self._counter(
            "sightline_log_rebalances_total", "Partitions that came or went (assigned, revoked, lost)", "group", "event"
        )
        self.log_handed_back = self._counter(
            "sightline_log_handed_back_records_total", "Records in flight that were not finished when their partition went away", "group"
        )
        self.log_commits = self._counter("sightline_log_commits_total", "Offset commits by outcome (done, failed)", "group", "outcome")
        self.log_dead_letters = self._counter("sightline_log_dead_letters_total", "Records put aside", "topic")
        self.log_up = self._gauge("sightline_log_up", "1 while a broker answers, 0 while none does", "client")

    def _of_matcher(self) -> None:
        self.gallery_references = self._gauge("sightline_matcher_references", "References in memory", "collection", "shard")
        self.gallery_generation = self._gauge("sightline_matcher_generation", "Generation of the gallery in memory", "shard")
        self.gallery_damaged = self._gauge(
            "sightline_matcher_damaged_embeddings", "Stored embeddings that can't be used and are left out of memory", "shard"
        )
        self.gallery_load_seconds = self._gauge("sightline_matcher_load_seconds", "How long the last load from the database took", "shard")
        self.match_seconds = self._histogram("sightline_matcher_search_seconds", "One search call", "shard")
        self.match_cpu = self._counter("sightline_matcher_search_cpu_seconds_total", "CPU time of searches", "shard")
        self.match_probes = self._counter("sightline_matcher_probes_total", "Probes answered", "shard")
        self.match_batches = self._counter(
            "sightline_matcher_batches_total",
            "Batches by what became of them (answered, expired, poison, refused, unsent, duplicate)",
            "shard",
            "outcome",
        )
        self.match_wait_seconds = self._histogram(
            "sightline_matcher_wait_seconds", "From a batch's arrival in the matcher to its search", "shard"
        )
        self.match_queue_depth = self._gauge("sightline_matcher_queue_depth", "Batches waiting in the shard's queue", "shard")
        self.match_batches_asked = self._counter(
            "sightline_matcher_asked_batches_total", "Batches asked by this process, by outcome (complete, partial, failed)", "outcome"
        )
        self.match_answer_seconds = self._histogram(
            "sightline_matcher_answer_seconds", "From question to a shard's answer, seen by the asker", "shard"
        )
        self.match_answers_late = self._counter("sightline_matcher_late_answers_total", "Answers after the deadline", "shard")
        self.match_answers_unreadable = self._counter("sightline_matcher_unreadable_answers_total", "Answers that could not be read")
        self.match_hedges = self._counter("sightline_matcher_hedges_total", "Batches asked once more because a replica was slow", "shard")
        self.match_breaker_open = self._gauge("sightline_matcher_breaker_open", "1 while a shard is not waited for", "shard")

    def _of_the_rest(self) -> None:
        self.enrollments = self._counter("sightline_enrollment_photos_total", "Photos by outcome", "outcome")
        self.sightings_stored = self._counter("sightline_sightings_stored_total", "Sighting revisions stored", "camera", "outcome")
        self.stored_seconds = self._histogram(
            "sightline_sightings_latency_seconds", "Capture to stored, of each sighting's first revision", "region"
        )
        self.store_seconds = self._histogram("sightline_sightings_store_seconds", "One batch into the database")
        self.sightings_silent = self._counter(
            "sightline_sightings_closed_silent_total", "Open sightings closed because nothing more was heard of them"
        )
        self.sightings_dropped = self._counter(
            "sightline_sightings_dropped_total", "Sightings not stored, or deleted, because they show people who have opted out"
        )
        self.alerts_raised = self._counter("sightline_sightings_alerts_total", "Alerts raised", "watchlist", "camera")
        self.sightings_dead = self._counter("sightline_sightings_dead_lettered_total", "Sighting messages that could not be stored")
        self.sightings_expired = self._counter("sightline_sightings_expired_total", "Sightings erased because they were too old")
        self.retention_removed = self._counter("sightline_sightings_retention_removed_total", "Rows removed, or emptied, by age", "data")
        self.retention_oldest = self._gauge("sightline_sightings_retention_oldest_age_seconds", "Age of the oldest row", "data")
        self.sightings_retention_ran = self._gauge(
            "sightline_sightings_retention_finished_timestamp_seconds", "When retention last finished"
        )
        self.audit_entries = self._counter("sightline_audit_entries_total", "Entries added to the audit")
        self.audit_failures = self._counter(
            "sightline_audit_failures_total", "Entries that could not be kept; what they were about was withheld"
        )
        self.audit_seconds = self._histogram("sightline_audit_write_seconds", "One transaction of the audit, of one or many entries")
        self._of_search()
        self.api_requests = self._counter("sightline_api_requests_total", "Requests by route and status", "route", "method", "status")
        self.api_refused = self._counter(
            "sightline_api_refused_total",
            "Requests refused, by reason (unauthorized, forbidden, csrf, login, rate, quota, anonymous)",
            "reason",
        )
        self.api_connections = self._gauge("sightline_api_connections", "Open connections")
        self.api_connections_cut = self._counter("sightline_api_connections_cut_total", "Connections cut, by reason (full, slow)", "reason")
        self.api_seconds = self._histogram("sightline_api_request_seconds", "Request time by route", "route")

    def _of_search(self) -> None:
        self.webhook_deliveries = self._counter(
            "sightline_webhooks_attempts_total", "Attempts to deliver, by outcome (delivered, failed, dead, skipped)", "outcome"
        )
        self.webhook_seconds = self._histogram("sightline_webhooks_attempt_seconds", "One attempt to deliver")
        self.webhook_waiting = self._gauge("sightline_webhooks_waiting", "Deliveries that wait, over all processes; looked up each minute")
        self.mqtt_published = self._counter("sightline_mqtt_messages_total", "Messages that the broker has acknowledged")
        self.mqtt_connected = self._gauge("sightline_mqtt_connected", "1 while this process is the one that publishes")
        self.frigate_labels = self._counter("sightline_mqtt_frigate_labels_total", "Sub labels written to Frigate, by outcome", "outcome")
        self.events_lag = self._gauge("sightline_events_lag", "Events that a reader has not finished (webhooks, mqtt)", "reader")
        self.history_sightings = self._gauge("sightline_api_history_sightings", "Sightings that a search of the past compares with")
        self.history_bytes = self._gauge("sightline_api_history_bytes", "Memory of the index of sightings")
        self.cache_hits = self._counter("sightline_api_cache_hits_total", "Photos answered from the result cache")
        self.cache_misses = self._counter("sightline_api_cache_misses_total", "Photos that the result cache did not have")
        self.cache_bytes = self._gauge("sightline_api_cache_bytes", "Memory of the result cache")
        self.persons_seen = self._counter(
            "sightline_sightings_persons_total", "Strangers by what became of them (joined, new, left_out)", "outcome"
        )

    def _of_jobs(self) -> None:
        self.upload_bytes = self._counter("sightline_api_upload_bytes_total", "Bytes of uploads that came through this process")
        self.job_items = self._counter("sightline_api_job_items_total", "Items of jobs by what became of them", "kind", "outcome")
        self.jobs_running = self._gauge("sightline_api_jobs_running", "Jobs that this process is doing", "kind")
        self.jobs_ended = self._counter("sightline_api_jobs_total", "Jobs that ended here", "kind", "state")
        self.job_callbacks = self._counter("sightline_api_job_callbacks_total", "Calls at the end of jobs", "outcome")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=STAGE_BUCKETS_S)

    def render(self) -> bytes:
        """Return the exposition text, of CONTENT_TYPE."""
        return generate_latest(self.registry)
