"""Simulated cameras: an RTSP server that plays H.264 clips by the clock, to any number of clients over TCP.

What a client sees depends on when it looks, not on when it came: whoever reconnects finds the scene as far on as it is. Before the scene
begins and after it ends a camera shows its first picture, which never moves. Sources: RFC 2326 (RTSP), RFC 3550 (RTP).
"""

import asyncio
import struct
import threading
import time
import zlib
from collections.abc import Mapping
from types import TracebackType

from cli.services.annexb import Clip, Picture

RTP_CLOCK_HZ = 90000
RTP_TYPE = 96
MARKER = 0x80
MAX_REQUEST_BYTES = 1 << 14
MAX_BEHIND_BYTES = 2 << 20
"""A client that leaves so much unread is cut off, as by a camera."""
START_TIMEOUT_S = 10.0


class RtspServer:
    """One camera per clip, at ``url(camera)``. Use as a context manager; the server runs in a thread of its own.

    Thread rule: any thread.
    """

    def __init__(self, clips: Mapping[str, Clip], *, port: int = 0, loop: bool = False) -> None:
        """Compose a server that is not started yet.

        Args:
            clips: what each camera shows.
            port: on the loopback interface; 0 = any.
            loop: play the clips again and again, from the start of the server on; otherwise once, from ``play`` on.
        """
        self._clips = dict(clips)
        self._port = port
        self._loop_clips = loop
        self._base_s = time.monotonic()
        self._began_s: float | None = self._base_s if loop else None
        self._events: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="rtsp", daemon=True)
        self.clients: dict[str, int] = dict.fromkeys(self._clips, 0)
        """How many clients play each camera now."""

    def __enter__(self) -> "RtspServer":
        self._thread.start()
        self._ready.wait(START_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._events is not None and self._stop is not None:
            self._events.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url(self, camera: str) -> str:
        """Return a camera's address."""
        return f"rtsp://127.0.0.1:{self._port}/{camera}"

    def play(self) -> float:
        """Begin the scene now, on all cameras at once; return the Unix time of its first picture."""
        self._began_s = time.monotonic()
        return time.time()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._events, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._talk, "127.0.0.1", self._port, limit=MAX_REQUEST_BYTES)
        except OSError as err:
            self._failure = err
            self._ready.set()
            return
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stop.wait()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing: asyncio.Task[None] | None = None
        try:
            while (request := await _read_request(reader)) is not None:
                method, path, sequence = request
                camera = path.strip("/").partition("/")[0]
                if camera not in self._clips:
                    writer.write(f"RTSP/1.0 404 Not Found\r\nCSeq: {sequence}\r\n\r\n".encode())
                    return
                writer.write(f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{self._reply(method, camera)}".encode())
                if method == "PLAY" and playing is None:
                    playing = asyncio.create_task(self._play(camera, writer))
                if method == "TEARDOWN":
                    return
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # the client is gone, or speaks nothing that we understand
        finally:
            if playing is not None:
                playing.cancel()
            writer.close()

    def _reply(self, method: str, camera: str) -> str:
        if method == "DESCRIBE":
            fmtp = f"a=fmtp:{RTP_TYPE} packetization-mode=1;sprop-parameter-sets={self._clips[camera].parameter_sets}\r\n"
            media = f"m=video 0 RTP/AVP {RTP_TYPE}\r\na=rtpmap:{RTP_TYPE} H264/{RTP_CLOCK_HZ}\r\n{fmtp}a=control:track\r\n"
            body = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={camera}\r\nt=0 0\r\n{media}"
            return f"Content-Type: application/sdp\r\nContent-Base: {self.url(camera)}/\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        return {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n\r\n",
            "PLAY": "Session: 1\r\n\r\n",
        }.get(method, "\r\n")

    async def _play(self, camera: str, writer: asyncio.StreamWriter) -> None:
        """Send pictures at their times until cancelled; the first one is a key frame."""
        clip = self._clips[camera]
        shift_s = zlib.crc32(camera.encode()) % 1000 / 1000 / clip.fps  # cameras do not tick in step
        number = int((time.monotonic() - self._base_s) * clip.fps) + 1
        sequence, started = 0, False
        self.clients[camera] += 1
        try:
            while True:
                await asyncio.sleep(self._base_s + shift_s + number / clip.fps - time.monotonic())
                picture = self._picture(camera, number)
                started = started or picture.key
                if started:
                    sequence = _send(writer, picture, sequence, int(number * RTP_CLOCK_HZ / clip.fps))
                if writer.transport.get_write_buffer_size() > MAX_BEHIND_BYTES:
                    writer.transport.abort()
                    return
                number += 1
        finally:
            self.clients[camera] -= 1

    def _picture(self, camera: str, number: int) -> Picture:
        """Return what a camera shows at a tick of its clock."""
        clip = self._clips[camera]
        if self._began_s is None:
            return clip.pictures[0]
        at = number - round((self._began_s - self._base_s) * clip.fps)
        if self._loop_clips:
            return clip.pictures[(at + zlib.crc32(camera.encode())) % len(clip.pictures)]  # each camera begins elsewhere in its clip
        return clip.pictures[at] if 0 <= at < len(clip.pictures) else clip.pictures[0]


def _send(writer: asyncio.StreamWriter, picture: Picture, sequence: int, timestamp: int) -> int:
    parts = []
    last = len(picture.payloads) - 1
    for index, payload in enumerate(picture.payloads):
        kind = RTP_TYPE | (MARKER if index == last else 0)
        header = struct.pack(">BBHII", 0x80, kind, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 1)
        parts += [b"$\x00", struct.pack(">H", len(header) + len(payload)), header, payload]
        sequence += 1
    if not writer.is_closing():
        writer.write(b"".join(parts))
    return sequence


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, str] | None:
    """Return method, path and sequence number of the next request, skipping reports of the receiver; None at the end."""
    while True:
        first = await reader.read(1)
        if not first:
            return None
        if first == b"$":
            _, size = struct.unpack(">BH", await reader.readexactly(3))
            await reader.readexactly(size)
            continue
        head = first + await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, url, _ = lines[0].split(" ", 2)
        path = url.partition("://")[2].partition("/")[2] if "://" in url else url
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if size := int(fields.get("content-length", "0")):
            await reader.readexactly(size)
        return method, path, fields.get("cseq", "0")
