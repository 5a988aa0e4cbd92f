"""Real photographs that come with a package: two of scikit-learn's, cut into many."""

import functools
import io

import numpy as np
from PIL import Image


@functools.cache
def _photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def cuts(count: int) -> list[Image.Image]:
    """Parts of photographs, of any place, size and proportions; the same ones always."""
    random = np.random.default_rng(0)
    photographs, images = _photographs(), []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        size = random.integers(64, 400, 2)
        left, top = random.integers(0, np.array(photograph.size) - size + 1)
        images.append(photograph.crop((left, top, left + size[0], top + size[1])))
    return images


def squares(count: int, size: int) -> np.ndarray:
    """Such parts as pixels: (count, size, size, 3), uint8."""
    images = [image.resize((size, size), Image.Resampling.BILINEAR) for image in cuts(count)]
    return np.stack([np.asarray(image) for image in images])


def jpegs(count: int) -> list[bytes]:
    """Such parts as JPEG files."""
    files = []
    for image in cuts(count):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files
