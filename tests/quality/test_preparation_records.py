import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from segqa.data.boxes import Box
from segqa.data.layouts.dataset import TrueObject, Truth
from segqa.errors import InputError
from segqa.quality.preparation import LabelledImage, Settings, prepare_image, prepare_shards
from segqa.quality.records import OWN, read_rows, read_shard, read_skipped, write_shard


@pytest.fixture
def item():
    """Two objects of class 2 that overlap; the second is number 2 of the map too."""
    outer, inner = np.zeros((90, 90), bool), np.zeros((90, 90), bool)
    outer[10:70, 10:70] = True
    inner[30:50, 30:85] = True
    objects = (TrueObject("a", 2, outer), TrueObject("b", 2, inner))
    labels = Truth.of_objects(objects, height=90, width=90).labels
    image = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    return LabelledImage("case", "group", "set", image, labels, {}, objects)


def test_a_record_holds_the_whole_object_and_its_neighbour_where_it_is_free(item):
    records = prepare_image(item, [], Settings()).records

    first = next(record for record in records if record.object == "a")
    assert (first.labels == OWN).sum() == 60 * 60
    assert (first.labels > OWN).sum() == 20 * 15


def test_candidates_know_their_box_in_the_image(item):
    records = prepare_image(item, [], Settings()).records

    first = next(record for record in records if record.object == "a")
    assert [c.image_box for c in first.candidates if c.prompt == "exact"] == [Box(10, 10, 70, 70)]


def test_what_was_skipped_comes_back_from_the_shard(item, tmp_path):
    prepared = prepare_image(item, [], Settings(min_side=30))
    rows = [{"case": "case", "reason": "too small"}]

    write_shard(tmp_path / "with.safetensors", prepared.records, rows)
    write_shard(tmp_path / "without.safetensors", prepared.records)

    assert read_skipped(tmp_path / "with.safetensors") == rows
    assert read_skipped(tmp_path / "without.safetensors") == []
    assert len(read_shard(tmp_path / "with.safetensors")) == len(prepared.records)


def test_a_shard_of_skipped_rows_only_is_whole(tmp_path):
    write_shard(tmp_path / "shard.safetensors", [], [{"case": "a", "reason": "empty"}])

    assert read_shard(tmp_path / "shard.safetensors") == []
    assert len(read_skipped(tmp_path / "shard.safetensors")) == 1


def test_shards_from_before_boxes_of_the_image_are_refused(item, tmp_path):
    write_shard(tmp_path / "new.safetensors", prepare_image(item, [], Settings()).records)
    rows = read_rows(tmp_path / "new.safetensors")
    for row in rows:
        for candidate in row["candidates"]:
            del candidate["image_box"]
    with safe_open(tmp_path / "new.safetensors", framework="numpy") as shard:
        tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 (no container)
    save_file(tensors, tmp_path / "old.safetensors", metadata={"records": json.dumps(rows)})

    with pytest.raises(InputError, match=r"old\.safetensors: of an earlier version of segqa; run `segqa prepare`"):
        read_shard(tmp_path / "old.safetensors")


def test_more_corruptions_change_neither_boxes_nor_the_other_masks(item):
    few = prepare_image(item, [], Settings(corruptions=1)).records
    many = prepare_image(item, [], Settings(corruptions=3)).records

    for one, other in zip(few, many, strict=True):
        assert one.candidates == other.candidates[: len(one.candidates)]
        assert (one.packed_masks == other.packed_masks[: len(one.candidates)]).all()


def test_an_image_without_room_for_a_wrong_box_says_so(item, monkeypatch):
    monkeypatch.setattr("segqa.quality.preparation.wrong_box", lambda *_, **__: None)

    skipped = prepare_image(item, [], Settings(max_objects=1)).skipped

    assert ("wrong", "no room for a wrong box in the image") in [(row.prompt, row.reason) for row in skipped]


def test_each_case_keeps_its_records_where_another_run_finishes_shards_meanwhile(item, tmp_path):
    names, rivals = list("abc"), []

    def prepare(load):
        return prepare_shards(names, load, [], tmp_path, settings=Settings(), cases_per_shard=1)

    def load(name):
        return replace(item, case=name)

    def overtaken(name):
        if not rivals:
            rivals.append(prepare(load))
            assert [next(rivals[0]) for _ in names] == [2, 2, 2]  # two shards are whole, and it is at the third
        return load(name)

    assert list(prepare(overtaken)) == [2, 2, 2]
    shards = sorted(tmp_path.glob("shard-*"))
    assert [{row["case"] for row in read_rows(path)} for path in shards] == [{"a"}, {"b"}, {"c"}]
