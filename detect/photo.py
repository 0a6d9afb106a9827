"""Faces in a single photo: what a person hands over may be a tight crop, a thumbnail or 12 megapixels of landscape. Pure.

Video frames go to the detector as they are; a photo gets a second look, and only when the first one finds nothing.
"""

import cv2
import numpy as np

from core.types import F32, U8, Faces, Image
from detect.detector import Detector
from detect.nms import suppress
from detect.refine import refine

SMALL_PX = 160
"""Photos below this longest side are enlarged to it: of 200 pictures of 23 x 28 px all faces are found (0 as they are), of 62 crops of
32 px 62 (13)."""
BORDER = 0.25
"""Black border in longest sides. Of 62 crops that cut into the face at 640 px the detector finds 44 without, 61 with it."""
TILE_PX = 1920
"""Side of a tile: shrunk to 640 px, a face of 48 px, the least that is comfortable to recognise, keeps 16 px, which the detector finds."""
TILE_OVERLAP_PX = 240
"""Faces higher than this were found in the whole photo."""
NMS_IOU = 0.3
ONE: F32 = np.ones(2, np.float32)


def detect_photo(detector: Detector, image: Image) -> Faces:
    """Find the faces of a photo, best score first.

    First as it is; else with a border, for tight crops; else in tiles, for small faces in large photos. Landmarks are refined
    (detect.refine).

    Args:
        detector: Any detector; the constants are measured with CenterFace at 640 px.
        image: (H, W, 3) uint8 RGB.

    Returns:
        Faces in the photo's pixels.

    Raises:
        ModelError: as the detector.
    """
    return refine(detector, [image], [_find(detector, image)])[0]


def _find(detector: Detector, image: Image) -> Faces:
    longest = max(image.shape[:2])
    if longest < SMALL_PX:
        return _detect_bordered(detector, image, SMALL_PX / longest)
    faces = detector.detect([image])[0]
    if not len(faces):
        faces = _detect_bordered(detector, image, 1.0)
    if not len(faces) and longest > TILE_PX:
        faces = _detect_tiles(detector, image)
    return faces


def tile_starts(length_px: int) -> list[int]:
    """Return where tiles begin along one side, evenly spread, overlapping by at least TILE_OVERLAP_PX."""
    if length_px <= TILE_PX:
        return [0]
    count = 1 + -(-(length_px - TILE_PX) // (TILE_PX - TILE_OVERLAP_PX))
    return [round(i * (length_px - TILE_PX) / (count - 1)) for i in range(count)]


def _detect_bordered(detector: Detector, image: Image, enlarge: float) -> Faces:
    height, width = image.shape[:2]
    if enlarge > 1:
        size = (max(1, round(width * enlarge)), max(1, round(height * enlarge)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    border = round(max(image.shape[:2]) * BORDER)
    framed: U8 = np.pad(image, ((border, border), (border, border), (0, 0)))
    factor = np.array([width / image.shape[1], height / image.shape[0]], np.float32)
    return _moved(detector.detect([framed])[0], np.full(2, -border, np.float32), factor)


def _detect_tiles(detector: Detector, image: Image) -> Faces:
    corners = [(x, y) for y in tile_starts(image.shape[0]) for x in tile_starts(image.shape[1])]
    found = detector.detect([image[y : y + TILE_PX, x : x + TILE_PX] for x, y in corners])
    parts = [_moved(faces, np.array(corner, np.float32), ONE) for faces, corner in zip(found, corners, strict=True)]
    faces = Faces(
        boxes=np.concatenate([part.boxes for part in parts]),
        landmarks=np.concatenate([part.landmarks for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )
    return faces.take(suppress(faces.boxes, faces.scores, iou=NMS_IOU))


def _moved(faces: Faces, offset: F32, factor: F32) -> Faces:
    """Move faces by (x, y), then scale them by (x, y)."""
    boxes = (faces.boxes.reshape(-1, 2, 2) + offset) * factor
    return Faces(boxes=boxes.reshape(-1, 4), landmarks=(faces.landmarks + offset) * factor, scores=faces.scores)
