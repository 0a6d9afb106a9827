"""Connections to cameras that the API itself opens: trials and snapshots. A few at a time, each with a limit of time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from aiohttp import web

from api.work import Turns
from core.jpeg import encode_jpeg
from ingest.opening import SourceOptions
from ingest.probe import Probe, probe_source

AT_ONCE = 2  # decoded pictures and threads
MOST = 8
OPTIONS = SourceOptions(open_timeout_s=5.0, read_timeout_s=5.0)
JPEG_QUALITY = 85


class Trials:
    """Opens cameras in two threads of its own. Thread rule: one event loop."""

    def __init__(self) -> None:
        self._turns = Turns("camera connections", at_once=AT_ONCE, most=MOST)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="camera-trial")

    async def look(self, url: str, *, allow: tuple[str, ...] | None, measure: bool) -> tuple[Probe, bytes]:
        """Connect, and return what was found with the first picture as a JPEG.

        Args:
            url: of the camera, with credentials.
            allow: where it may lead, see ``SourceOptions.allow``; None = anywhere.
            measure: measure the frame rate too, for two seconds.

        Raises:
            BusyError: too many wait. AddressRefusedError, UnavailableError, UnreadableMediaError, NotFoundError: no picture, and why.
        """
        options = replace(OPTIONS, allow=allow)

        def work() -> tuple[Probe, bytes]:
            probe = probe_source(url, options, measure=measure)
            return probe, encode_jpeg(probe.image, JPEG_QUALITY)

        async with self._turns.turn():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Let the threads go; one that waits for a camera ends with its limit of time."""
        self._threads.shutdown(wait=False, cancel_futures=True)


TRIALS = web.AppKey("trials", Trials)
