import io
from pathlib import Path

import numpy as np
import pytest
import sample_packages
from PIL import Image

from vlret.data.sample_images import Emoji, draw, look_alikes, photograph, plain
from vlret.files import InputError


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Emoji:
    return Emoji(sample_packages.make(tmp_path_factory.mktemp("packages"))["emoji"])


@pytest.fixture(scope="module")
def flag(emoji: Emoji) -> Image.Image:
    return draw(emoji.flag("AA"), 144)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float32)


def test_flags_are_found_by_code_and_emoji_by_name(emoji: Emoji):
    assert emoji.flag("AA").name == "1F1E6-1F1E6.svg"
    assert emoji.flag("ZZ") is None
    assert emoji.named("Cat").name == "1F408.svg"
    assert emoji.named("Dog") is None


def test_a_package_without_drawings_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        Emoji(tmp_path)


def test_a_drawing_is_cut_to_what_is_drawn(flag: Image.Image):
    assert flag.size == (120, 72)


def test_a_plain_image_is_the_flag_in_the_middle_of_white(flag: Image.Image):
    image = np.asarray(plain(flag, 100))
    assert image.shape == (100, 100, 3)
    assert image[5, 50].tolist() == image[50, 1].tolist() == [255, 255, 255]
    assert image[30, 50].tolist() == [255, 0, 0]
    assert (image == image[:, ::-1]).all()


def test_equal_drawings_look_alike_and_a_small_emblem_tells_apart(emoji: Emoji, flag: Image.Image):
    other = flag.copy()
    other.paste("green", (52, 28, 68, 44))
    drawings = {"b": draw(emoji.flag("EE"), 144), "a": flag, "emblem": other, "c": draw(emoji.flag("BB"), 144)}
    assert look_alikes(drawings) == [("a", "b")]


def test_a_photograph_is_equal_for_equal_seeds_and_unlike_for_others(flag: Image.Image):
    taken = [photograph(flag, 96, np.random.default_rng(seed)) for seed in (1, 1, 2, 3)]
    assert taken[0] == taken[1]
    assert len(set(taken)) == 3
    assert pixels(taken[0]).shape == (96, 96, 3)


def test_most_of_a_photograph_is_the_flag_in_its_colours(flag: Image.Image):
    for seed in range(20):
        image = pixels(photograph(flag, 96, np.random.default_rng(seed)))
        red = (image[..., 0] > image[..., 1] + 40) & (image[..., 0] > image[..., 2] + 40)
        assert 0.08 < red.mean() < 0.35, seed
        rows = np.flatnonzero(red.any(axis=1))
        assert rows.min() > 0, "the flag is whole"


def test_a_flag_that_is_no_rectangle_keeps_its_shape():
    triangle = Image.new("RGBA", (60, 80))
    for row in range(80):
        triangle.paste((255, 0, 0, 255), (0, row, 1 + 59 * row // 79, row + 1))
    image = pixels(photograph(triangle, 96, np.random.default_rng(0)))
    red = (image[..., 0] > image[..., 1] + 40) & (image[..., 0] > image[..., 2] + 40)
    rows = np.flatnonzero(red.sum(axis=1) > 3)
    upper, lower = red[rows[len(rows) // 5]].sum(), red[rows[4 * len(rows) // 5]].sum()
    assert lower > 2 * upper
