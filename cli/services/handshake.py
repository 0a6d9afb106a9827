"""Is a server ready? Asked in its own protocol: a port that accepts connections may belong to a server that is still starting.

Sources: AMQP 0-9-1 specification 4.2; Kafka protocol guide, Metadata v0; PostgreSQL manual, "Message Formats".
"""

import socket
import struct

from core.errors import UnavailableError

TIMEOUT_S = 3.0
AMQP_START = struct.pack(">HH", 10, 10)  # connection.start
KAFKA_METADATA = 3
KAFKA_API_VERSIONS = 18
POSTGRES_PROTOCOL = 196608  # 3.0
MAX_REPLY_BYTES = 1 << 20


def amqp_version(host: str, port: int) -> str:
    """Return the product and version that an AMQP server presents itself with. Raises UnavailableError."""
    with _connect(host, port) as server:
        server.sendall(b"AMQP\x00\x00\x09\x01")
        kind, _, size = struct.unpack(">BHI", _read(server, 7))
        body = _read(server, size)
    if kind != 1 or body[:4] != AMQP_START:
        raise UnavailableError(f"{host}:{port} does not speak AMQP 0-9-1")
    _, found, rest = body.partition(b"\x07version" + b"S")
    return rest[4 : 4 + struct.unpack(">I", rest[:4])[0]].decode() if found else "of unknown version"


def kafka_brokers(host: str, port: int) -> int:
    """Return how many brokers a Kafka server knows of, itself included. Raises UnavailableError."""
    request = struct.pack(">hhih", KAFKA_METADATA, 1, 7, -1) + struct.pack(">i", 0)  # v1, correlation id 7, no client id, no topics
    with _connect(host, port) as server:
        server.sendall(struct.pack(">i", len(request)) + request)
        reply = _read(server, struct.unpack(">i", _read(server, 4))[0])
    correlation, brokers = struct.unpack(">ii", reply[:8])
    if correlation != 7:
        raise UnavailableError(f"{host}:{port} does not speak Kafka's protocol")
    if brokers < 1:
        raise UnavailableError(f"{host}:{port} knows no broker yet")
    return int(brokers)


def postgres_version(host: str, port: int, *, user: str, database: str) -> str:
    """Return PostgreSQL's version, or "" when it wants a password first. Raises UnavailableError."""
    options = b"".join(word.encode() + b"\0" for word in ("user", user, "database", database)) + b"\0"
    with _connect(host, port) as server:
        server.sendall(struct.pack(">II", 8 + len(options), POSTGRES_PROTOCOL) + options)
        while True:
            kind, size = struct.unpack(">cI", _read(server, 5))
            body = _read(server, size - 4)
            if kind == b"E":
                said = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
                raise UnavailableError(f"{host}:{port}: {said.get(b'M', 'refused')}")
            if kind == b"R" and body[:4] != b"\0\0\0\0":
                return ""
            if kind == b"S" and body.startswith(b"server_version\0"):
                return body.split(b"\0")[1].decode().split(" ")[0]
            if kind == b"Z":
                return ""


def _connect(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), TIMEOUT_S)
    except OSError as err:
        raise UnavailableError(f"nothing answers at {host}:{port}: {err.strerror or err}") from err


def _read(server: socket.socket, size: int) -> bytes:
    if not 0 <= size <= MAX_REPLY_BYTES:
        raise UnavailableError("the server speaks another protocol")
    data = b""
    while len(data) < size:
        try:
            part = server.recv(size - len(data))
        except OSError as err:
            raise UnavailableError(f"the server does not answer: {err.strerror or err}") from err
        if not part:
            raise UnavailableError("the server closed the connection")
        data += part
    return data
