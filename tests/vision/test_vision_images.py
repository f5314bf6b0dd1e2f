"""Image files of every kind come out upright, on white, as RGB bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncore.errors import ArgumentError
from cnncore.vision import ImageError, find_images, photograph, read_image

# Two rows of three: red green blue, black grey white.
COLORS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [128, 128, 128], [255, 255, 255]]],
    np.uint8,
)
GREY = np.array([[0, 64, 128], [192, 255, 10]], np.uint8)


def stored(tmp_path: Path, image: Image.Image, name: str = "a.png", **settings) -> np.ndarray:
    image.save(tmp_path / name, **settings)
    return read_image(tmp_path / name)


def test_colours_and_grey(tmp_path: Path) -> None:
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(COLORS)), COLORS)
    grey = stored(tmp_path, Image.fromarray(GREY))
    np.testing.assert_array_equal(grey, np.stack([GREY] * 3, -1))
    bits = stored(tmp_path, Image.fromarray(GREY > 100))
    np.testing.assert_array_equal(bits[..., 0], np.where(GREY > 100, 255, 0))


# How a viewer turns the stored pixels, by the number of the Exif note (its specification, 4.6.4).
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("number", ORIENTATIONS)
def test_exif_orientation(tmp_path: Path, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    shown = stored(tmp_path, Image.fromarray(COLORS), exif=exif)
    np.testing.assert_array_equal(shown, ORIENTATIONS[number](COLORS))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    alpha = np.array([[255, 0, 128], [0, 255, 255]], np.uint8)
    shown = stored(tmp_path, Image.fromarray(np.dstack([COLORS, alpha])))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(shown, COLORS * share + 255 * (1 - share), atol=1)
    shown = stored(tmp_path, Image.fromarray(np.dstack([GREY, alpha])))
    np.testing.assert_allclose(
        shown[..., 0], GREY * share[..., 0] + 255 * (1 - share[..., 0]), atol=1
    )


def test_palettes(tmp_path: Path) -> None:
    picture = Image.fromarray(COLORS).quantize(8)
    np.testing.assert_array_equal(stored(tmp_path, picture), COLORS)
    np.testing.assert_array_equal(stored(tmp_path, picture, "a.gif"), COLORS)
    index = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    index.putpalette([255, 0, 0, 0, 0, 255])
    shown = stored(tmp_path, index, transparency=1)
    np.testing.assert_array_equal(shown[0], [[255, 0, 0], [255, 255, 255], [255, 255, 255]])


def test_sixteen_bits_and_floats(tmp_path: Path) -> None:
    wide = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(wide))[..., 1], GREY)
    dark = stored(tmp_path, Image.fromarray(np.full((2, 2), 200, np.uint16)))
    assert dark.max() == 1  # 200 of 65535 is nearly black
    floats = Image.fromarray(GREY.astype(np.float32) / 255)
    np.testing.assert_array_equal(stored(tmp_path, floats, "a.tif")[..., 2], GREY)


def test_print_colours(tmp_path: Path) -> None:
    shown = stored(tmp_path, Image.fromarray(COLORS).convert("CMYK"), "a.tif")
    np.testing.assert_array_equal(shown[0], COLORS[0])


@pytest.mark.parametrize("cut", [0, 10, 40, 60])
def test_damaged_files_are_named(tmp_path: Path, cut: int) -> None:
    Image.fromarray(COLORS).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:cut])
    with pytest.raises(ImageError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    for name in ("text.jpg", "missing.png", "."):
        with pytest.raises(ImageError):
            read_image(tmp_path / name)


def test_a_header_that_claims_a_huge_picture(tmp_path: Path) -> None:
    (tmp_path / "huge.pgm").write_bytes(b"P5 200000 200000 255\n" + bytes(100))
    with pytest.raises(ImageError, match=r"huge\.pgm"):
        read_image(tmp_path / "huge.pgm")


def test_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.png", "a.JPG", "inner/c.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_images([tmp_path])] == ["a.JPG", "b.png"]
    assert [p.name for p in find_images([f"{tmp_path}/**"])] == ["a.JPG", "b.png", "c.png"]
    assert [p.name for p in find_images([f"{tmp_path}/*.png", tmp_path])] == ["b.png", "a.JPG"]
    assert find_images([tmp_path / "missing.png"]) == [tmp_path / "missing.png"]
    for nothing in (f"{tmp_path}/*.gif", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ArgumentError):
            find_images([nothing])


def test_photographs() -> None:
    pytest.importorskip("skimage")
    assert photograph("chelsea").shape == (300, 451, 3)
    with pytest.raises(ArgumentError, match="astronaut"):
        photograph("dog")
