import numpy as np
import pytest

from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.segmenters.base import Prompt, check_prompts

IMAGE = np.zeros((40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("prompt", "fact"),
    [
        (Prompt(), "neither a box nor a point"),
        (Prompt(Box(60, 0, 70, 10)), "no pixel in the 60x40 image"),
        (Prompt(Box(20, 10, 10, 30)), "no pixel in the 60x40 image"),
        (Prompt(points=((61.0, 5.0, True),)), "outside the 60x40 image"),
    ],
)
def test_a_prompt_that_says_nothing_about_the_image_is_refused(prompt, fact):
    with pytest.raises(InputError, match=fact) as error:
        check_prompts(IMAGE, [Prompt(Box(0, 0, 5, 5)), prompt])

    assert str(error.value).startswith("prompt 2:")


def test_a_box_that_only_reaches_out_of_the_image_is_taken():
    check_prompts(IMAGE, [Prompt(Box(-5, -5, 100, 100)), Prompt(points=((60.0, 40.0, False),))])
