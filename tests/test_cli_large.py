"""Images that memory does not hold: read lazily, cut in tiles, never above the budget."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncore import models, nn
from cnncore.cli import main
from cnncore.cli.predictors import Options, make_predictor
from cnncore.errors import OutOfMemoryError
from cnncore.evaluate.dense import choose_tiling, label_image, pass_bytes, statistics
from cnncore.vision import ImageError, label_colors, photograph
from cnncore.vision.pixels import Pixels, open_pixels

tifffile = pytest.importorskip("tifffile")


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", ["rgb", "grey", "sixteen"])
@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "rowsperstrip": 7, "predictor": True},
        {"tile": (64, 48)},
        {"tile": (64, 48), "compression": "zlib"},
    ],
)
def test_tiff_files_are_read_in_parts(tmp_path, kind, stored):
    values = picture(150, 131)
    wanted = values.transpose(2, 0, 1)
    photometric = "rgb"
    if kind == "grey":
        values, photometric = values[..., 0], "minisblack"
        wanted = np.stack([values] * 3)
    if kind == "sixteen":
        values = values.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, **stored)
    pixels = open_pixels(tmp_path / "a.tif", 0)
    assert isinstance(pixels.stored, np.memmap)
    assert pixels.shape == (3, 150, 131)
    for rows, columns in ((slice(3, 90), slice(60, 131)), (slice(140, 150), slice(0, 1))):
        np.testing.assert_array_equal(pixels[:, rows, columns], wanted[:, rows, columns])


def test_other_files(tmp_path):
    values = picture(20, 30)
    np.save(tmp_path / "a.npy", values)
    assert isinstance(open_pixels(tmp_path / "a.npy", 0).stored, np.memmap)
    Image.fromarray(values).save(tmp_path / "a.png")
    part = open_pixels(tmp_path / "a.png", 1800)[:, 5:9, :]
    np.testing.assert_array_equal(part, values.transpose(2, 0, 1)[:, 5:9])
    with pytest.raises(ImageError, match=r"30×20 pixels .* try: a TIFF file"):
        open_pixels(tmp_path / "a.png", 1799)
    (tmp_path / "b.tif").write_bytes(b"II*\0broken")
    with pytest.raises(ImageError, match=r"b\.tif"):
        open_pixels(tmp_path / "b.tif", 0)
    np.save(tmp_path / "c.npy", np.zeros((4, 4)))
    with pytest.raises(ImageError, match="bytes or 16-bit numbers, got float64"):
        open_pixels(tmp_path / "c.npy", 0)
    opaque = np.dstack([values, np.full((20, 30), 255, np.uint8)])
    opaque[:5, :, 3] = 0
    layered = Pixels(opaque)
    assert (layered[:, :5, :] == 255).all()
    np.testing.assert_array_equal(layered[:, 5:, :], values.transpose(2, 0, 1)[:, 5:])


def test_statistics_are_those_of_the_whole_image():
    values = picture(700, 20, 3)
    mean, deviation = statistics(Pixels(values))
    np.testing.assert_allclose(mean, values.mean((0, 1)))
    np.testing.assert_allclose(deviation, values.std((0, 1)))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A file with a U-Net whose receptive field fits into the context of a tile."""
    path = tmp_path_factory.mktemp("net") / "unet.npz"
    nn.init.seed(0)
    models.save(path, models.create("unet", num_classes=3, base=4, depth=2, norm=None))
    return path


def test_the_largest_tile_that_fits_is_chosen(network):
    dense = make_predictor(Options(str(network))).dense
    whole = pass_bytes(dense, (512, 512))
    assert choose_tiling(dense, (512, 512), 2 * whole + 8 * 3 * 512 * 512) is None
    budget = 2 * pass_bytes(dense, (300, 300))
    tiling = choose_tiling(dense, (5000, 5000), budget)
    shown = tiling.tile + 2 * tiling.context
    assert pass_bytes(dense, (shown, shown)) <= budget // 2
    assert pass_bytes(dense, (shown + 32, shown + 32)) > budget // 2
    with pytest.raises(OutOfMemoryError, match="--memory"):
        choose_tiling(dense, (5000, 5000), 2**20)


def test_tiles_give_the_map_of_one_pass(network, tmp_path, capsys):
    """On the command line, with a memory that the image does not fit into."""
    image = np.concatenate([photograph("chelsea")] * 2)
    tifffile.imwrite(tmp_path / "cats.tif", image, photometric="rgb")
    given = ["predict", str(tmp_path / "cats.tif"), "--model", str(network), "--json"]
    assert main([*given, "--output", str(tmp_path / "one")]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert main([*given, "--output", str(tmp_path / "many"), "--memory", "24"]) == 0
    (many,) = json.loads(capsys.readouterr().out)
    assert many["picture"].endswith("cats.tif")
    assert many["tile"] < 300
    whole = np.asarray(Image.open(one["picture"]))
    tiled = tifffile.imread(many["picture"])
    assert tiled.shape == whole.shape == image.shape
    # Sums are added up in another order: a pixel whose classes are level may fall either way.
    assert (tiled != whole).any(-1).mean() < 1e-3
    known = label_colors(3)
    assert all((known == color).all(1).any() for color in np.unique(tiled.reshape(-1, 3), axis=0))
    assert [p.name for p in (tmp_path / "many").iterdir()] == ["cats.tif"]  # nothing left behind


def test_python_memory_does_not_grow_with_the_image(network, tmp_path):
    """What NumPy allocates while labelling: the same for an image four times as high."""
    dense = make_predictor(Options(str(network))).dense
    budget = 24 * 2**20
    peaks = []
    for height in (1500, 6000):
        place = tmp_path / f"{height}.npy"
        stored = np.lib.format.open_memmap(place, "w+", np.uint8, (height, 400, 3))
        stored[:] = np.arange(height)[:, None, None] % 251
        stored.flush()
        out = np.memmap(tmp_path / f"{height}.out", np.uint8, "w+", shape=(height, 400))
        pixels = open_pixels(place, budget)
        tiling = choose_tiling(dense, (height, 400), budget)
        tracemalloc.start()
        label_image(dense, pixels, out, tiling, budget, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= budget
    assert peaks[1] < peaks[0] + 2**20
    assert not list(tmp_path.glob(".logits*"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux's account of memory")
def test_the_process_stays_within_its_budget(network, tmp_path):
    """Anonymous memory beyond that of a process that did the same on a small image."""
    script = (
        "import sys, threading, time; from cnncore.cli import main\n"
        "peak = 0\n"
        "def look():\n"
        "    global peak\n"
        "    while True:\n"
        "        line = [l for l in open('/proc/self/status') if l.startswith('RssAnon')][0]\n"
        "        peak = max(peak, int(line.split()[1])); time.sleep(0.01)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "main(sys.argv[1:]); print(peak)"
    )
    peaks = []
    for side in (300, 4500):
        place = tmp_path / f"{side}.tif"
        target = tifffile.memmap(place, shape=(side, side, 3), dtype=np.uint8, photometric="rgb")
        target[:] = 99
        target.flush()
        given = ["predict", str(place), "--model", str(network), "--memory", "96", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", script, *given, "--output", str(tmp_path / "o")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    # One pass over the large image would hold 4500² · 4 channels · 4 bytes = 309 MiB in each layer.
    assert peaks[1] < peaks[0] + 96
