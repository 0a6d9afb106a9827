"""What librdkafka says, brought to the log of the process: once when the brokers go and once when they are back, the rest sparsely."""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import KafkaError

from core.metrics import Metrics

REPEAT_S = 30.0  # the same complaint is written this often; librdkafka repeats it several times a second while brokers are away
AWAY = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT})
"""One connection; with several brokers no cause for alarm."""
REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})


class Sparse:
    """Lets a message through once in a while and counts the others. Pure."""

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        self._repeat_s = repeat_s
        self._last: dict[str, tuple[float, int]] = {}

    def due(self, what: str, now_s: float) -> int | None:
        """Return None to keep silent, else how many of the kind were kept back."""
        last = self._last.get(what)
        if last is not None and now_s - last[0] < self._repeat_s:
            self._last[what] = (last[0], last[1] + 1)
            return None
        self._last[what] = (now_s, 0)
        return last[1] if last else 0

    def again(self, what: str) -> None:
        """Let the next message of the kind through."""
        self._last.pop(what, None)


class Reporter:
    """The ear of one librdkafka client. Thread rule: any thread."""

    def __init__(self, client: str, servers: str, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._servers, self._metrics, self._clock = client, servers, metrics, clock
        self._logger = structlog.get_logger("kafka").bind(client=client)
        self._sparse = Sparse()
        self._lock = threading.Lock()
        self.trouble = ""
        """Why no broker answers, in one line; "" while one does, as far as is known."""
        self.fatal = False
        """The client is beyond use and must be made anew."""
        self._connection = ""

    def config(self) -> dict[str, Any]:
        """Return the settings that make a client report here."""
        return {"error_cb": self.on_error, "logger": self}

    def log(self, level: int, pattern: str, *args: Any) -> None:
        """Take a line of librdkafka's log; it calls this like a logging.Logger. It never holds credentials."""
        facility = str(args[0]) if args else pattern
        if facility != "FAIL":  # these come as errors too
            self.say(f"librdkafka {facility}", text=pattern % args if args else pattern)

    def on_error(self, error: KafkaError) -> None:
        """Take an error of the whole client: brokers gone, refused, fatal."""
        code = error.code()
        if error.fatal():
            self.fatal = True
        if code in AWAY:
            self._connection = error.str()
        elif code == KafkaError._ALL_BROKERS_DOWN:
            self._down("kafka is away", f"Kafka at {self._servers} does not answer: {self._connection or error.str()}")
        elif code in REFUSED:
            self._down("kafka refuses us", f"Kafka at {self._servers} refuses us: {error.str()}")
        else:
            self.say(f"kafka error {error.name()}", reason=error.str())

    def _down(self, what: str, trouble: str) -> None:
        self.trouble = trouble
        self._metrics.log_up.labels(self._client).set(0)
        self.say(what, reason=trouble)

    def answered(self) -> None:
        """Note that a broker did what was asked."""
        if self.trouble:
            self._logger.warning("kafka is back")
            self.trouble = ""
            self._sparse.again("kafka is away")
        self._metrics.log_up.labels(self._client).set(1)

    def say(self, what: str, **values: Any) -> None:
        """Warn, unless the same was said just now."""
        with self._lock:
            kept_back = self._sparse.due(what, self._clock())
        if kept_back is not None:
            more = {"repeated": kept_back} if kept_back else {}
            self._logger.warning(what, **values, **more)
