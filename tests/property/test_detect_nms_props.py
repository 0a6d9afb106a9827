"""Vectorised suppression does what the naive double loop does; batches cover every item once."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.batches import fixed_batches
from detect.nms import suppress

coordinates = st.integers(0, 40)
box_lists = st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates, st.integers(1, 5)), max_size=30)


def naive(boxes: np.ndarray, scores: np.ndarray, iou: float) -> list[int]:
    keep: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(overlap(boxes[i], boxes[j]) <= iou for j in keep):
            keep.append(i)
    return keep


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


@given(box_lists, st.sampled_from([0.0, 0.3, 0.45, 0.7]))
def test_suppress_agrees_with_the_double_loop(items: list[tuple[int, int, int, int, int]], iou: float):
    raw = np.array(items, np.float32).reshape(-1, 5)
    boxes = np.concatenate([np.minimum(raw[:, :2], raw[:, 2:4]), np.maximum(raw[:, :2], raw[:, 2:4])], axis=1)
    on_the_bound = (abs(overlap(a, b) - iou) < 1e-6 for a in boxes for b in boxes)
    assume(iou == 0.0 or not any(on_the_bound))  # 42 of 140 is 0.3, or a hair more in float32: either answer is right
    assert suppress(boxes, raw[:, 4], iou=iou).tolist() == naive(boxes, raw[:, 4], iou)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 20), st.just(4)), elements=st.floats(-1e6, 1e6, width=32)))
def test_suppress_takes_any_boxes_and_never_loses_the_best(boxes: np.ndarray):
    scores = np.linspace(1, 0.5, len(boxes), dtype=np.float32)
    kept = suppress(boxes, scores, iou=0.3).tolist()
    assert kept == sorted(set(kept))
    assert kept[:1] == list(range(min(1, len(boxes))))


@given(st.integers(0, 100), st.sampled_from([(1,), (1, 2, 4, 8), (1, 2, 4, 8, 16, 32)]), st.booleans())
def test_batches_cover_each_item_once_in_order_with_known_sizes(count: int, sizes: tuple[int, ...], pad: bool):
    batches = list(fixed_batches(count, sizes, pad=pad))
    assert [i for batch in batches for i in range(batch.start, batch.stop)] == list(range(count))
    assert all(batch.size in sizes and len(batch) <= batch.size for batch in batches)
    assert pad or all(len(batch) == batch.size for batch in batches)
    assert all(len(batch) == batch.size for batch in batches[:-1])
