"""The misbehaving proxy itself: the fault tests lean on it."""

import socket
import threading
import time

import pytest

from tests.builders.proxy import TcpProxy


@pytest.fixture
def echo():
    """A server that sends back what it gets, and stays when its client half-closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def talk(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(4096):
                    heard.append(data)
                    client.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def connect(proxy: TcpProxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), 5)
    client.sendall(b"hello")
    assert client.recv(16) == b"hello"
    return client


def test_proxy_cuts_and_serves_again(echo) -> None:
    with TcpProxy("127.0.0.1", echo[0]) as proxy:
        with connect(proxy) as client:
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                client.recv(16)
        connect(proxy).close()
        assert proxy.connections == 2


def test_proxy_refuses_until_healed(echo) -> None:
    with TcpProxy("127.0.0.1", echo[0]) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
            client.recv(16)  # the reset may come as early as the connection
        proxy.heal()
        connect(proxy).close()


def test_proxy_delays_in_order(echo) -> None:
    with TcpProxy("127.0.0.1", echo[0]) as proxy, connect(proxy) as client:
        proxy.delay(0.1)
        began = time.monotonic()
        client.sendall(b"a")
        client.sendall(b"b")
        got = client.recv(1) + client.recv(1)
        assert got == b"ab"
        assert time.monotonic() - began >= 0.2  # there and back


def test_proxy_half_close_ends_one_direction(echo) -> None:
    port, heard = echo
    with TcpProxy("127.0.0.1", port) as proxy, connect(proxy) as client:
        proxy.half_close()
        assert client.recv(16) == b""
        client.sendall(b"still heard")
        deadline = time.monotonic() + 5
        while b"still heard" not in heard and time.monotonic() < deadline:
            time.sleep(0.01)
        assert b"still heard" in heard


def test_proxy_forwards_much_data(echo) -> None:
    data = bytes(range(256)) * 8192
    with TcpProxy("127.0.0.1", echo[0]) as proxy, connect(proxy) as client:
        threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        got = bytearray()
        while len(got) < len(data):
            got += client.recv(1 << 16)
        assert got == data
