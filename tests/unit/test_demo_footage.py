"""The demo's footage: plausible pictures, the same each time, and a clip that appears whole."""

from pathlib import Path

import numpy as np

from cli.demo.backdrop import COUNTER_PX, gate, lobby
from cli.demo.footage import Painter, ensure_footage, load_cut_out
from cli.demo.script import FIGURES, HEIGHT_PX, WIDTH_PX, CameraScript, Stop, Visit
from ingest.source import open_source

SMALL = CameraScript(
    camera="lobby",
    gain=(1.0, 1.0, 1.0),
    visits=(
        Visit(
            person="Grace Hopper",
            known=False,
            photo="grace-hopper",
            mirrored=False,
            stops=(Stop(t_s=0.2, x_px=600, y_px=440, height_px=120), Stop(t_s=2.0, x_px=600, y_px=440, height_px=120)),
        ),
    ),
)


def test_rooms_are_full_pictures_of_different_places() -> None:
    rooms = [lobby(), gate()]
    assert [room.shape for room in rooms] == [(HEIGHT_PX, WIDTH_PX, 3)] * 2
    assert all(room.std() > 20 for room in rooms)
    assert np.abs(rooms[0].astype(int) - rooms[1]).mean() > 20


def test_painting_is_deterministic() -> None:
    first, again = (list(Painter(SMALL, seed=3).frames(0.4)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_person_appears_where_the_script_says_and_stands_behind_the_counter() -> None:
    empty, _, person, _ = Painter(SMALL, seed=3).frames(0.4)
    changed = np.abs(person.astype(int) - empty).max(axis=2) > 25
    face = changed[390:490, 560:640]
    assert face.mean() > 0.6
    assert changed[COUNTER_PX:].mean() < 0.01
    assert changed[:200].mean() < 0.01


def test_sensor_noise_differs_from_frame_to_frame() -> None:
    first, second = Painter(CameraScript(camera="gate", gain=(1, 1, 1), visits=()), seed=1).frames(0.2)
    assert 0.5 < np.abs(first.astype(int) - second).mean() < 6


def test_a_mirrored_figure_keeps_its_face_under_the_same_point() -> None:
    figure = FIGURES["joe-biden-2010"]
    plain, turned = (load_cut_out(figure, (1, 1, 1), mirrored=mirrored) for mirrored in (False, True))
    x, y = round(plain.figure.face_x_px), round(plain.figure.face_y_px)
    turned_x = round(turned.figure.face_x_px)
    assert np.array_equal(turned.pixels[y, turned_x], plain.pixels[y, x])
    assert turned.alpha[y, turned_x] == 255


def test_footage_is_rendered_once_and_is_h264(tmp_path: Path) -> None:
    told: list[float] = []
    paths = ensure_footage(tmp_path, [SMALL], duration_s=0.5, report=told.append)
    assert told[-1] == 1.0
    with open_source(str(paths["lobby"])) as source:
        assert (source.info.codec, source.info.width_px, source.info.height_px, source.info.fps) == ("h264", WIDTH_PX, HEIGHT_PX, 10.0)
        assert len(list(source.frames())) == 5
    written = paths["lobby"].stat().st_mtime_ns
    assert ensure_footage(tmp_path, [SMALL], duration_s=0.5, report=told.append) == paths
    assert paths["lobby"].stat().st_mtime_ns == written
    assert len(told) == 5
