"""The bounded way from a camera's thread to the loop."""

import asyncio
import threading

import pytest

from core.schema import FrameHeader
from ingest.outbox import GatedFrame, Outbox


def frame(number: int, *, cut: bool = False) -> GatedFrame:
    header = FrameHeader(
        frame_id=f"c/s/{number}",
        camera="c",
        region="r",
        captured_s=float(number),
        published_s=0.0,
        width_px=8,
        height_px=8,
        reason="motion",
        scene_cut=cut,
    )
    return GatedFrame(header, b"")


async def opened(capacity: int) -> Outbox:
    outbox = Outbox(capacity)
    outbox.open()
    return outbox


async def drain(outbox: Outbox) -> list[GatedFrame]:
    outbox.close()
    frames = []
    while (taken := await outbox.take()) is not None:
        frames.append(taken)
    return frames


async def test_the_oldest_goes_when_it_is_full() -> None:
    outbox = await opened(3)
    assert [outbox.hand_over(frame(number)) for number in range(5)] == [0, 0, 0, 1, 1]
    assert [taken.header.captured_s for taken in await drain(outbox)] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("capacity", [1, 3])
async def test_a_cut_on_a_dropped_frame_moves_to_the_next(capacity: int) -> None:
    outbox = await opened(capacity)
    for number in range(capacity + 1):
        outbox.hand_over(frame(number, cut=number == 0))
    taken = await drain(outbox)
    assert [item.header.scene_cut for item in taken] == [True] + [False] * (capacity - 1)


async def test_frames_of_a_thread_wake_the_loop_in_order() -> None:
    outbox = await opened(100)

    def produce() -> None:
        for number in range(50):
            outbox.hand_over(frame(number))
        outbox.close()

    thread = threading.Thread(target=produce)
    thread.start()
    seen = []
    async with asyncio.timeout(5):
        while (taken := await outbox.take()) is not None:
            seen.append(taken.header.captured_s)
    thread.join()
    assert seen == [float(number) for number in range(50)]


async def test_clear_says_how_many_were_left() -> None:
    outbox = await opened(3)
    outbox.hand_over(frame(1))
    assert (outbox.clear(), len(outbox)) == (1, 0)
