"""A tiny RTSP server over TCP for fault tests: plays H.264 access units, and can fall silent or die in the middle."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av

Mood = Literal["plays", "silent", "freezes", "dies", "refuses"]
MTU_BYTES = 1200


@dataclass(frozen=True)
class Picture:
    """One coded picture."""

    pts_s: float
    nals: list[bytes]


def access_units(path: Path) -> list[Picture]:
    """Return the pictures of a clip in coding order, with the parameter sets before each key frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        convert = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        packets = [packet for raw in container.demux(stream) if raw.size for packet in convert.filter(raw)]
    return [
        Picture(
            float(packet.pts * packet.time_base),
            [nal for nal in bytes(packet).replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01") if nal],
        )
        for packet in packets
    ]


class RtspServer:
    """Serves one clip, over and over, to one client at a time. Use as a context manager; ``url`` is where."""

    def __init__(self, pictures: Sequence[Picture], mood: Mood, *, fps: int = 25, after: int = 10) -> None:
        self._pictures, self._mood, self._fps, self._after = pictures, mood, fps, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.clients = 0
        self.url = f"rtsp://admin:geheim@127.0.0.1:{self._listener.getsockname()[1]}/cam"

    def __enter__(self) -> "RtspServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        self._listener.settimeout(0.1)
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.clients += 1
            with client, contextlib.suppress(OSError):
                client.settimeout(0.1)
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        buffer = b""
        while not self._stop.is_set():
            try:
                data = client.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            buffer += data
            while b"\r\n\r\n" in buffer and self._mood != "silent":
                request, _, buffer = buffer.partition(b"\r\n\r\n")
                if self._answer(client, request.decode()):
                    return

    def _answer(self, client: socket.socket, request: str) -> bool:
        """Answer a request; return True when the connection is over."""
        method = request.split(" ", 1)[0]
        sequence = next(line.split(":")[1].strip() for line in request.splitlines() if line.lower().startswith("cseq"))
        if self._mood == "refuses":
            client.sendall(f"RTSP/1.0 404 Not Found\r\nCSeq: {sequence}\r\n\r\n".encode())
            return True
        sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t\r\n"
        extra = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
            "PLAY": "Session: 1\r\n\r\n",
        }.get(method, "\r\n")
        client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{extra}".encode())
        if method == "PLAY":
            self._play(client)
        return method in ("PLAY", "TEARDOWN")

    def _play(self, client: socket.socket) -> None:
        sequence, number = 0, 0
        while not self._stop.is_set():
            if number >= self._after and self._mood == "dies":
                return
            if number >= self._after and self._mood == "freezes":
                self._stop.wait(0.1)
                continue
            passes, index = divmod(number, len(self._pictures))
            pts_s = self._pictures[index].pts_s + passes * len(self._pictures) / self._fps
            nals = self._pictures[index].nals
            for at, nal in enumerate(nals):
                for payload, last in fragments(nal):
                    marker = 0x80 if last and at == len(nals) - 1 else 0
                    packet = struct.pack(">BBHII", 0x80, 96 | marker, sequence & 0xFFFF, int(pts_s * 90000), 7) + payload
                    client.sendall(b"$\x00" + struct.pack(">H", len(packet)) + packet)
                    sequence += 1
            number += 1
            time.sleep(1 / self._fps)


def fragments(nal: bytes) -> list[tuple[bytes, bool]]:
    """Return a NAL unit as RTP payloads (single, or FU-A of RFC 6184), each with whether it is the last."""
    if len(nal) <= MTU_BYTES:
        return [(nal, True)]
    head, kind, parts = nal[0] & 0xE0 | 28, nal[0] & 0x1F, [nal[at : at + MTU_BYTES] for at in range(1, len(nal), MTU_BYTES)]
    last = len(parts) - 1
    ends = [(0x80 if at == 0 else 0) | (0x40 if at == last else 0) for at in range(len(parts))]
    return [(bytes([head, kind | end]) + part, end & 0x40 > 0) for end, part in zip(ends, parts, strict=True)]
