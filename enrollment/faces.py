"""From a photo to the face that is stored: the working copy, and cutting the face out with its surroundings. Pure."""

from typing import Final

import cv2
import numpy as np

from core.jpeg import encode_jpeg
from core.types import F32, Image

WORKING_SIDE_PX: Final = 2048  # photos are shrunk to this: a face that matters in a portrait keeps hundreds of pixels
FACE_SIDE_PX: Final = 512  # of the stored picture: twice what any embedder looks at
SURROUNDINGS: Final = 0.5  # of the box, on each side: what other models' alignment and detectors need
FACE_QUALITY: Final = 92


def working_copy(image: Image) -> Image:
    """Return the photo with its longest side at most WORKING_SIDE_PX."""
    scale = WORKING_SIDE_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def cut_face(image: Image, box: F32, landmarks: F32) -> tuple[bytes, F32]:
    """Cut a face out with its surroundings.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) float32 x1, y1, x2, y2.
        landmarks: (5, 2) float32, pixels of the image.

    Returns:
        A JPEG without metadata, longest side at most FACE_SIDE_PX, and the landmarks (5, 2) float32 in its pixels.
    """
    low = np.minimum(box[:2], landmarks.min(axis=0))
    high = np.maximum(box[2:], landmarks.max(axis=0))
    margin = (high - low) * SURROUNDINGS
    height, width = image.shape[:2]
    x1, y1 = (int(v) for v in np.clip(np.floor(low - margin), 0, [width - 1, height - 1]))
    x2, y2 = (int(v) for v in np.clip(np.ceil(high + margin), [x1 + 1, y1 + 1], [width, height]))
    crop = image[y1:y2, x1:x2]
    points = landmarks - np.array([x1, y1], np.float32)
    scale = FACE_SIDE_PX / max(crop.shape[:2])
    if scale < 1:
        size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
        factors = np.array([size[0] / crop.shape[1], size[1] / crop.shape[0]], np.float32)
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
        points = (points + np.float32(0.5)) * factors - np.float32(0.5)  # pixel centres at integers
    return encode_jpeg(np.ascontiguousarray(crop), FACE_QUALITY), points.astype(np.float32)
