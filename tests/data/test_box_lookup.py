import pytest

from segqa.data.box_lookup import BoxLookup
from segqa.data.boxes import Box
from segqa.data.types import PromptBox

A, B = ((PromptBox(Box(0, 0, side, side)),) for side in (4, 5))


@pytest.mark.parametrize(
    ("key", "found"),
    [("a", A), ("x/a", A), ("a_0000", A), ("b", None), ("x/b", None)],
    ids=["its own", "with a folder", "with a channel", "of another image", "of another image in a folder"],
)
def test_an_image_is_known_by_its_key_its_file_or_its_name_alone(key, found):
    lookup = BoxLookup({key: A}, ["a", "x/b"], {"a": "a_0000"})
    assert lookup.of_image("a") == found
    assert lookup.unused == (() if found else (key,))


def test_the_key_of_an_image_itself_goes_before_its_other_names():
    lookup = BoxLookup({"x/a": B, "a": A}, ["a"])
    assert lookup.of_image("a") == A
    assert lookup.unused == ("x/a",)


def test_two_folders_with_one_name_tell_no_image():
    lookup = BoxLookup({"x/a": A, "y/a": B}, ["a"])
    assert lookup.of_image("a") is None


def test_an_image_that_is_named_without_a_box_has_none_and_is_known():
    lookup = BoxLookup({"a": ()}, ["a", "b"])
    assert lookup.of_image("a") == ()
    assert lookup.of_image("b") is None
    assert lookup.unused == ()


@pytest.mark.parametrize("key", ["v:7", "v:07", "v:0007"])
def test_a_slice_has_any_number_of_zeros(key):
    lookup = BoxLookup({key: A}, ["v"])
    assert [lookup.of_slice("v", index) for index in (0, 7, 70)] == [(), A, ()]
    assert lookup.unused == ()


def test_slice_0_is_one_though_it_is_all_zeros():
    assert BoxLookup({"v:000": A}, ["v"]).of_slice("v", 0) == A


@pytest.mark.parametrize("key", ["v", "v:", "v:a", "v:-7", "v:٧", "x/v:7", "7"])
def test_no_other_key_is_a_slice(key):
    lookup = BoxLookup({key: A}, ["v"])
    assert lookup.of_slice("v", 7) == ()
    assert lookup.unused == (key,)


def test_of_two_keys_of_a_slice_the_later_one_with_a_box_counts():
    lookup = BoxLookup({"v:7": A, "v:07": B, "v:007": ()}, ["v"])
    assert lookup.of_slice("v", 7) == B
    assert lookup.unused == ()
