"""PNG files: what Pillow reads back are the same pixels, whatever their kind and size."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipeline.pictures import png

SIDES = st.integers(1, 40)
PIXELS = st.one_of(
    SIDES.flatmap(lambda h: hnp.arrays(np.uint8, st.tuples(st.just(h), SIDES))),
    SIDES.flatmap(lambda h: hnp.arrays(np.uint8, st.tuples(st.just(h), SIDES, st.just(3)))),
    SIDES.flatmap(lambda h: hnp.arrays(np.bool_, st.tuples(st.just(h), SIDES))),
)


@given(PIXELS)
def test_pillow_reads_the_same_pixels(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.bool_],
) -> None:
    with Image.open(io.BytesIO(png.encode(pixels))) as image:
        image.load()  # checks the sums of all chunks
        assert image.mode == (
            "1" if pixels.dtype == np.bool_ else "L" if pixels.ndim == 2 else "RGB"
        )
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_view_of_a_larger_picture_is_encoded_as_it_looks() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    part = whole[3:20:2, 5:33, ::-1]
    with Image.open(io.BytesIO(png.encode(part))) as image:
        np.testing.assert_array_equal(np.asarray(image), part)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        png.encode(np.full((2, 3), 300.0))


def test_smooth_maps_come_out_little_larger_than_pillow_makes_them() -> None:
    y, x = np.mgrid[0:168, 0:196]
    smooth = np.rint(127 * (1 + np.sin(x / 17) * np.cos(y / 23))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "PNG")
    assert len(png.encode(smooth)) < 1.35 * len(buffer.getvalue())
