import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw():
    """Write a picture of 40 x 30 (width x height) with boxes (x0, y0, x1, y1) of value 1, 2, ..."""

    def make(path, *boxes, values=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = np.zeros((30, 40), np.uint8)
        for value, (x0, y0, x1, y1) in zip(values or range(1, 1 + len(boxes)), boxes, strict=True):
            labels[y0:y1, x0:x1] = value
        if path.suffix == ".png":
            Image.fromarray(labels).save(path)
        return labels

    return make
