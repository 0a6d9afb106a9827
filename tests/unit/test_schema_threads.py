"""Messages are read in several threads at once, from the first one on."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from core.schema import FrameHeader, decode, encode
record = encode(FrameHeader(
    frame_id="a", camera="c", region="r", captured_s=1.0, published_s=1.0, width_px=8, height_px=8, reason="motion",
    motion_boxes=((1, 2, 3, 4),)))
together = threading.Barrier(8)
def read():
    together.wait()
    decode(FrameHeader, record)
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
STARTS = 6  # two of five crashed when msgspec made what it knows of a struct at the first use


def test_the_first_messages_of_a_process_may_come_in_many_threads() -> None:
    root = Path(__file__).parents[2]
    codes = [subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, check=False).returncode for _ in range(STARTS)]
    assert codes == [0] * STARTS
