from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segqa.errors import InputError
from segqa.spe.bundle import Bundle, FitSettings, load_bundle, save_bundle


def make_bundle(grey=True, n_labels=2):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 128, 128, 1 if grey else 3), dtype=np.uint8)
    n_tasks = n_labels + (n_labels > 1)
    settings = FitSettings(
        engine="readout",
        engine_settings={"weights_sha256": "0"},
        labels=[str(label + 1) for label in range(n_labels)],
        models=["a", "b", "c", "d"],
        n_test=9,
        largest_distance=181.0,
        support_sizes=[9, 8],
        repeats=6,
        every_draw=False,
        tolerance=None,
        seed=0,
    )
    pseudo = rng.random((2, n_tasks, 4, 6))
    agreement, real = rng.random((2, n_tasks, 4, 6))
    kinds = [[["linear"] * 6] * n_tasks] * 2
    full = np.repeat(images, 3, axis=3) if grey else images
    masks = rng.random((4, n_labels, 128, 128)) > 0.5
    n_groups = rng.integers(1, 10, real.shape)
    return Bundle(settings, full, masks, np.array([1, 0, 2, 0]), pseudo, agreement, real, real / 10, n_groups, kinds)


@pytest.mark.parametrize("grey", [True, False])
def test_a_bundle_comes_back_as_it_was(tmp_path, grey):
    bundle = make_bundle(grey)

    save_bundle(bundle, tmp_path / "spe.bundle")
    again = load_bundle(tmp_path / "spe.bundle")

    assert again.settings == bundle.settings
    assert again.kinds == bundle.kinds
    for name in ("images", "masks", "groups", "pseudo", "agreement", "real", "spread", "n_groups"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bundle, name))


def test_arrays_of_any_memory_order_come_back_as_they_were(tmp_path):
    plain = make_bundle()
    names = ("images", "masks", "groups", "pseudo", "agreement", "real", "spread", "n_groups")
    turned = {name: np.asfortranarray(getattr(plain, name)) for name in names}

    save_bundle(replace(plain, **turned), tmp_path / "turned.bundle")
    save_bundle(plain, tmp_path / "plain.bundle")
    again = load_bundle(tmp_path / "turned.bundle")

    for name in names:
        np.testing.assert_array_equal(getattr(again, name), getattr(plain, name))
    assert (tmp_path / "turned.bundle").read_bytes() == (tmp_path / "plain.bundle").read_bytes()


def test_grey_images_are_stored_once_and_masks_as_bits(tmp_path):
    save_bundle(make_bundle(), tmp_path / "spe.bundle")

    assert (tmp_path / "spe.bundle").stat().st_size < 4 * 128 * 128 * (1 + 2 / 8) + 5000


def test_the_same_bundle_has_the_same_bytes(tmp_path):
    for name in "ab":
        save_bundle(make_bundle(), tmp_path / name)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tasks_are_the_labels_and_their_mean_when_there_are_several():
    assert make_bundle().tasks == ["1", "2", "mean"]
    assert make_bundle(n_labels=1).tasks == ["1"]


def refuse(path):
    with pytest.raises(InputError) as caught:
        load_bundle(path)
    assert path.name in str(caught.value)
    assert "segqa spe-fit" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_of_damage_is_one_line(tmp_path):
    path = tmp_path / "spe.bundle"
    save_bundle(make_bundle(), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:100], whole[:-1], b"", b"hello", whole + b"x"]
    for place in rng.integers(0, len(whole), 20).tolist():
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])

    for content in damaged:
        path.write_bytes(content)
        refuse(path)


def test_a_missing_bundle_and_another_safetensors_file_are_told_apart(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")

    assert "no such bundle" in refuse(tmp_path / "gone.bundle")
    assert "not an SPE bundle" in refuse(tmp_path / "other.safetensors")


def test_a_bundle_of_another_version_is_refused_with_both_versions(tmp_path):
    path = tmp_path / "spe.bundle"
    save_bundle(make_bundle(), path)
    head = {"format": "segqa.spe", "version": 7}
    save_file(load_file(path), path, metadata={"segqa": json.dumps(head)})

    said = refuse(path)

    assert "version 7" in said
    assert "version 5" in said
