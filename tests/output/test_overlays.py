from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from segqa.data.boxes import Box
from segqa.data.reading import Reading
from segqa.data.types import Case, ObjectMask, Source
from segqa.errors import InputError
from segqa.output import overlays
from segqa.output.overlays import BOX, OUTLINE, draw_overlay, to_data_uri, write_error_maps


def scene(height=80, width=120):
    image = np.full((height, width, 3), 90, np.uint8)
    mask = np.zeros((height, width), bool)
    mask[30:50, 40:70] = True
    return image, mask


def has(picture, colour):
    return (picture == colour).all(axis=-1)


def test_the_outline_and_the_box_are_drawn_around_the_object_and_nothing_else_changes():
    image, mask = scene()
    picture = draw_overlay(image, mask, Box(38, 28, 75, 55), side=200)
    assert max(picture.shape[:2]) == 200
    assert has(picture, OUTLINE).any()
    assert has(picture, BOX).any()
    rest = picture[~has(picture, OUTLINE) & ~has(picture, BOX)]
    assert (rest == 90).all()


def test_a_box_beyond_the_surroundings_of_the_mask_is_shown_whole():
    image, mask = scene()
    box = has(draw_overlay(image, mask, Box(2, 3, 118, 77), side=120), BOX)
    assert (np.flatnonzero(box.any(axis=0))[[0, -1]] == [2, 117]).all()
    assert (np.flatnonzero(box.any(axis=1))[[0, -1]] == [3, 76]).all()


def test_the_outline_lies_on_the_edge_of_the_mask():
    image, mask = scene(64, 64)
    mask[:] = False
    mask[20:44, 20:44] = True  # shown with 10 pixels around it: 10..54
    outline = has(draw_overlay(image, mask, side=44), OUTLINE)
    rows = np.flatnonzero(outline.any(axis=1))
    assert (rows[0], rows[-1]) == (10, 33)
    assert not outline[15:29, 15:29].any()


def test_without_a_box_none_is_drawn_and_an_empty_mask_shows_the_whole_image():
    image, mask = scene()
    assert not has(draw_overlay(image, mask), BOX).any()
    empty = draw_overlay(image, np.zeros_like(mask), side=120)
    assert empty.shape == (80, 120, 3)
    assert not has(empty, OUTLINE).any()


def test_likely_errors_shine_and_likely_right_pixels_do_not():
    image, mask = scene()
    error = np.full(mask.shape, -1.0, np.float32)
    error[35:45, 50:60] = 1.0
    picture = draw_overlay(image, mask, error=error)
    plain = draw_overlay(image, mask)
    changed = (picture != plain).any(axis=-1)
    assert changed.any()
    assert (picture[changed][:, 0] > plain[changed][:, 0]).all()
    assert not changed[:20].any()


def test_the_heat_tells_how_likely_an_error_is_and_is_not_stretched():
    image, mask = scene()
    reds = [
        draw_overlay(image, mask, error=np.full(mask.shape, chance, np.float32))[0, 0, 0] for chance in (0, 0.1, 0.5, 1)
    ]
    assert reds[0] == 90
    np.testing.assert_allclose(np.diff(reds) / (255 - 90) / 0.75, [0.1, 0.4, 0.5], atol=0.01)


def test_gains_shine_by_their_largest_because_they_have_no_scale():
    torch = pytest.importorskip("torch")
    from segqa.output.overlays import Seen, draw_errors
    from segqa.quality.preprocessing import Profile

    class Slope(torch.nn.Module):
        spec = SimpleNamespace(profile=Profile(size=24), heads=("dice",), compare=False)

        def __init__(self, gain):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(gain))

        def forward(self, inputs):
            return SimpleNamespace(scores=(self.gain * inputs[:, 3, :, :12].sum()).reshape(1, 1))

    image, mask = scene()
    seen = Seen("a", "m", ObjectMask("1", "1", mask, None), image)
    weak, strong = (draw_errors(seen, Slope(gain)) for gain in (1e-4, 1.0))
    np.testing.assert_array_equal(weak, strong)
    assert (weak[..., 0] > 200).any()


def test_an_error_map_of_zeros_changes_nothing():
    image, mask = scene()
    zeros = np.zeros(mask.shape, np.float32)
    assert (draw_overlay(image, mask, error=zeros) == draw_overlay(image, mask)).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3)])
def test_every_shape_can_be_drawn(shape):
    picture = draw_overlay(np.zeros((*shape, 3), np.uint8), np.ones(shape, bool), Box(0, 0, shape[1], shape[0]))
    assert max(picture.shape[:2]) == 256


@pytest.mark.parametrize("limit", [40_000, 8_000, 1_500])
def test_a_data_uri_keeps_its_limit_even_for_noise(limit):
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    assert len(to_data_uri(noise, max_bytes=limit)) <= limit


def test_the_objects_of_a_case_are_drawn_one_by_one_and_a_case_that_cannot_be_read_is_skipped(tmp_path, monkeypatch):
    events = []

    def find_objects(label_map, **_):
        for number in "123":
            events.append(f"cut {number}")
            yield ObjectMask(number, "1", label_map > 0, None)

    def draw_errors(seen, *_, **__):
        events.append(f"drawn {seen.one.object}")
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("segqa.data.cases.find_objects", find_objects)
    for name, replacement in (("draw_errors", draw_errors), ("load_judge", str)):
        monkeypatch.setattr(overlays, name, replacement)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    sources = [Source(tmp_path / name) for name in ("b.png", "a.png")]
    cases = [Case(source.path.stem, source, {"m": source}) for source in sources]
    assert write_error_maps(cases, Reading(on_error="skip"), tmp_path, tmp_path / "maps") == 3
    assert events == [f"{verb} {number}" for number in "123" for verb in ("cut", "drawn")]
    with pytest.raises(InputError, match=r"b\.png"):
        write_error_maps(cases, Reading(), tmp_path, tmp_path / "again")


def test_error_maps_whose_names_a_file_system_takes_for_equal_get_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr(overlays, "draw_errors", lambda *_, **__: np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(overlays, "load_judge", str)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.png")
    source = Source(tmp_path / "a.png")
    cases = [Case(name, source, {"m": source}) for name in ("a b", "a_b", "a/b")]
    assert write_error_maps(cases, Reading(), tmp_path, tmp_path / "maps") == 3
    names = {path.name for path in (tmp_path / "maps" / "m").iterdir()}
    assert names == {"a_b_1_1.png", "a_b_1_1-2.png", "a_b_1_1-3.png"}


def test_error_maps_of_a_plan_are_one_picture_per_object(tiny_weights, tmp_path):
    from segqa.phantoms import write_demo
    from segqa.scores import plan_score

    write_demo(tmp_path, n_cases=1)
    plan = plan_score(tmp_path / "images", tmp_path / "masks", tmp_path / "boxes.json", weights=tiny_weights)
    count = write_error_maps(plan.cases, plan.reading, tiny_weights, tmp_path / "maps", method="belief")
    files = sorted((tmp_path / "maps").rglob("*.png"))
    assert count == len(files) == 3 * 3
    assert files[0].name == "phantom_01_1_1.png"
    with Image.open(files[0]) as picture:
        assert max(picture.size) == 256
