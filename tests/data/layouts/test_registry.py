import pytest

from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match="absent: no such file or folder"):
        choose_layout(tmp_path / "absent", None)


def test_an_unknown_layout_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"--layout dicomdir: choose one of auto, .*nnunet.*coco|coco.*nnunet"):
        choose_layout(tmp_path, None, wanted="dicomdir")


def test_a_folder_of_no_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match="none of the layouts"):
        choose_layout(tmp_path, None)


def test_two_folders_are_plain_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    assert choose_layout(tmp_path / "a", tmp_path / "b") == (
        "folders",
        "two paths of images and references, paired by stem",
    )


def test_a_layout_that_was_told_is_taken(tmp_path):
    assert choose_layout(tmp_path, None, wanted="coco") == ("coco", "as told")


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_refuses_an_empty_folder_in_one_line(name, tmp_path):
    from segqa.data.layouts.dataset import Finding

    with pytest.raises(InputError) as caught:
        LAYOUTS[name].read(tmp_path, None, Finding())

    assert "\n" not in str(caught.value)
