"""What is declared for a queue: exchanges, arguments, bindings, and where a quorum queue puts aside what nobody can process.

Queues that consumers share are durable even where their messages are not: RabbitMQ 4.3 and later refuse a named queue that is neither
durable nor exclusive. A transient queue therefore keeps its name and bindings over a restart of the server, and loses its messages.
"""

from typing import Any, Final

from core.adapters.amqp_channel import AmqpChannel, ChannelClosedError
from core.ports import QueueSpec
from core.topology import DEAD_PREFIX

DELIVERY_LIMIT: Final = 20  # deliveries that end without an acknowledgement; RabbitMQ 4's default, 3.x knew none
TRANSIENT_BYTES: Final = 256 << 20  # oldest out first: what waits longest is asked again by then
QUORUM_BYTES: Final = 1 << 30  # when full, publishers are refused: nothing is lost in silence
DEAD_ARGUMENTS: Final = {"x-queue-type": "quorum", "x-max-length": 10_000, "x-overflow": "drop-head"}


async def declare_queue(channel: AmqpChannel, spec: QueueSpec) -> str:
    """Declare a queue with its exchanges and bindings; return its name.

    Raises:
        ChannelClosedError: the server refuses, saying what differs and how to mend it. UnavailableError: no answer.
    """
    raw = channel.raw
    what = "exchange"
    try:
        for exchange, kind, _ in spec.bindings:
            what = f"exchange {exchange!r}"
            await channel.call(raw.exchange_declare, exchange, kind, durable=True)
        what = f"queue {spec.name!r}"
        if not spec.name:
            answer = await channel.call(raw.queue_declare, "", exclusive=True, auto_delete=True)
        else:
            if spec.kind == "quorum" and not spec.name.startswith(DEAD_PREFIX):
                await channel.call(raw.queue_declare, DEAD_PREFIX + spec.name, durable=True, arguments=DEAD_ARGUMENTS)
            answer = await channel.call(raw.queue_declare, spec.name, durable=True, arguments=queue_arguments(spec))
        name = str(answer.method.queue)
        for exchange, _, key in spec.bindings:
            what = f"binding of queue {name!r} to exchange {exchange!r}"
            await channel.call(raw.queue_bind, name, exchange, key)
    except ChannelClosedError as err:
        raise ChannelClosedError(err.reply_code, f"{what}: {err}{_advice(err, what)}") from err
    return name


def queue_arguments(spec: QueueSpec) -> dict[str, Any]:
    """Return the arguments of a named queue; ``dead.<queue>`` is where the quorum queue ``<queue>`` puts messages aside."""
    if spec.name.startswith(DEAD_PREFIX):
        return dict(DEAD_ARGUMENTS)
    arguments: dict[str, Any] = {}
    if spec.expires_s is not None:
        arguments["x-expires"] = int(1000 * spec.expires_s)
    if spec.kind == "transient":
        return arguments | {"x-max-length-bytes": TRANSIENT_BYTES, "x-overflow": "drop-head"}
    return arguments | {
        "x-queue-type": "quorum",
        "x-max-length-bytes": QUORUM_BYTES,
        "x-overflow": "reject-publish",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD_PREFIX + spec.name,
        "x-dead-letter-strategy": "at-least-once",
    }


def _advice(err: ChannelClosedError, what: str) -> str:
    if "inequivalent arg" in str(err):
        return f"; delete the {what} (its messages go with it) or change what declares it, then start again"
    return "; grant the account configure, write and read on it (see docs/rabbitmq.md)" if err.reply_code == 403 else ""
