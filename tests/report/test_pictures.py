"""Small pictures of examples: pixels, and nothing else that came with them."""

import base64
import io
import random

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from compressit.report import pictures
from compressit.report.pictures import picture


def opened(made):
    kind, _, held = made.source.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(held, validate=True)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


def noise(*size, mode="RGB"):
    channels = len(mode)
    return Image.frombytes(mode, size, random.Random(0).randbytes(size[0] * size[1] * channels))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_small_image_keeps_its_pixels_and_is_shown_larger(mode):
    image = noise(8, 6, mode=mode)
    made = picture(image)
    assert (made.width, made.height, made.enlarged) == (64, 48, True)
    assert np.array_equal(np.asarray(opened(made)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size", [(300, 200), (33, 2000), (96, 96), (5000, 4)])
def test_a_large_image_is_made_small(size):
    made = picture(noise(*size))
    assert max(made.width, made.height) <= 96
    assert opened(made).size == (made.width, made.height)
    assert not made.enlarged
    assert len(made.source) <= 4 * pictures.LARGEST / 3 + 40


def test_nothing_that_a_file_holds_besides_pixels_comes_along():
    image = noise(200, 200)
    image.info.update(comment=b"canary", icc_profile=b"canary" * 30, exif=b"Exif\0\0canary")
    held, notes = io.BytesIO(), PngImagePlugin.PngInfo()
    notes.add_text("Author", "canary")
    image.save(held, "PNG", pnginfo=notes)
    read = Image.open(held)
    assert read.text == {"Author": "canary"}
    for each in (image, read, read.resize((8, 8))):
        made = opened(picture(each))
        assert b"canary" not in base64.b64decode(picture(each).source.partition(",")[2])
        assert not getattr(made, "text", {})
        assert not {"comment", "exif", "icc_profile"} & made.info.keys()


def test_what_cannot_be_small_is_left_out(monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 100)
    assert picture(noise(96, 96)) is None
    assert picture(Image.new("RGB", (0, 5))) is None
