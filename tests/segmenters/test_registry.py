import subprocess
import sys

import pytest

from segqa.errors import InputError
from segqa.segmenters.registry import SEGMENTERS, load_segmenter


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"yolo: no such segmenter.*litemedsam.*sam-med2d"):
        load_segmenter("yolo")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("sam-vit-l", "sam_vit_l_0b3195.pth"),
        ("medsam-as-sam", "medsam_vit_b.pth"),
        ("sam-med2d", "sam-med2d_b.pth"),
    ],
)
def test_a_missing_checkpoint_is_named_with_its_origin_and_its_place(name, file, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGQA_CACHE", str(tmp_path / "cache"))

    with pytest.raises(InputError) as error:
        load_segmenter(name)

    assert file in str(error.value)
    assert "https://github.com/" in str(error.value)
    assert str(tmp_path / "cache" / file) in str(error.value)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.pth: no such file"):
        load_segmenter(f"sam-vit-b={tmp_path / 'nothing.pth'}")


def test_the_registry_and_the_protocol_import_no_torch():
    code = "import sys, segqa.segmenters.registry, segqa.segmenters.precomputed; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "litemedsam" in SEGMENTERS
