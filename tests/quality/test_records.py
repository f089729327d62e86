import dataclasses
import os

import numpy as np
import pytest

from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.quality.library import group_share, read_library
from segqa.quality.records import OWN, Candidate, Record, drop_equal_channels, pack_masks, read_shard, write_shard


def make_record(seed=0, *, case="case", group="g", dataset="d", colour=False, n_masks=3):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(5, 30)), int(rng.integers(5, 30)))
    box = Box(1, 2, 4, 5)
    candidates = tuple(
        Candidate("sam", "exact", box, rng.random(), rng.random(), 3.25, 1.5, None if i else 0.75, 0.1 * i, box)
        for i in range(n_masks)
    )
    pixels = rng.integers(0, 256, size=(*shape, 3 if colour else 1), dtype=np.uint8)
    labels = rng.integers(0, 4, size=shape, dtype=np.uint8)
    masks = pack_masks(list(rng.random((n_masks, *shape)) < 0.5))
    return Record(case, group, dataset, "1", "1", pixels, labels, 0.1 + 0.2, candidates, masks)


def assert_equal(first, second):
    for field in dataclasses.fields(Record):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs


def test_records_come_back_as_they_were_written(tmp_path):
    records = [make_record(seed, colour=bool(seed % 2)) for seed in range(5)]
    write_shard(tmp_path / "shard.safetensors", records)
    for one, other in zip(records, read_shard(tmp_path / "shard.safetensors"), strict=True):
        assert_equal(one, other)


def test_writing_what_was_read_gives_the_same_bytes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    write_shard(first, [make_record(seed) for seed in range(4)])
    write_shard(second, read_shard(first))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_shard_is_put_on_the_disk_by_a_file_that_is_open_for_writing(tmp_path, monkeypatch):
    fcntl, modes = pytest.importorskip("fcntl"), []
    monkeypatch.setattr("os.fsync", lambda number: modes.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE))
    write_shard(tmp_path / "shard", [make_record()])
    assert modes == [os.O_WRONLY]  # Windows refuses another


def test_a_shard_without_records_can_be_read(tmp_path):
    write_shard(tmp_path / "empty", [])
    assert read_shard(tmp_path / "empty") == []


def test_masks_survive_packing():
    masks = np.random.default_rng(0).random((3, 7, 11)) < 0.5
    record = dataclasses.replace(
        make_record(), labels=np.zeros((7, 11), np.uint8), packed_masks=pack_masks(list(masks))
    )
    for index in range(3):
        np.testing.assert_array_equal(record.mask(index), masks[index])


def test_a_grey_picture_is_kept_once_and_shown_thrice():
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    assert drop_equal_channels(grey).shape == (3, 4, 1)
    record = dataclasses.replace(make_record(), labels=np.zeros((3, 4), np.uint8), pixels=drop_equal_channels(grey))
    np.testing.assert_array_equal(record.image, grey)
    colour = grey.copy()
    colour[0, 0, 2] += 1
    assert drop_equal_channels(colour).shape == (3, 4, 3)


def test_the_object_is_the_first_label():
    record = make_record()
    np.testing.assert_array_equal(record.truth, record.labels == OWN)


@pytest.mark.parametrize("damage", ["truncated", "not safetensors", "empty", "missing"])
def test_a_damaged_shard_is_one_line_that_names_it(tmp_path, damage):
    path = tmp_path / "shard-00000.safetensors"
    write_shard(path, [make_record()])
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[:-40], "not safetensors": b"PK\3\4" * 9, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"shard-00000.*run prepare again") as caught:
        read_shard(path)
    assert "\n" not in str(caught.value)


def test_a_library_keeps_groups_apart_and_counts_what_is_learnt(tmp_path):
    records = [make_record(i, case=f"c{i}", group=f"patient {i % 20}") for i in range(60)]
    for folder, block in (("a", records[:30]), ("b/deeper", records[30:])):
        (tmp_path / folder).mkdir(parents=True)
        write_shard(tmp_path / folder / "shard-00000.safetensors", block)
    library = read_library([tmp_path], validation_share=0.3)
    learnt, held = ({record.group for record in part} for part in (library.training, library.validation))
    assert learnt
    assert held
    assert not learnt & held
    assert library.counts() == {"d": len(library.training)}
    assert len(library.training) + len(library.validation) == 60


def test_groups_of_one_name_in_two_data_sets_have_nothing_in_common(tmp_path):
    records = [make_record(i, dataset="ab"[i % 2], group=f"patient {i // 2}") for i in range(80)]
    write_shard(tmp_path / "shard-0.safetensors", records)
    held = read_library([tmp_path], validation_share=0.5).validation
    of_a, of_b = ({record.group for record in held if record.dataset == name} for name in "ab")
    assert len(of_a) > 10
    assert len(of_b) > 10
    assert of_a != of_b


def test_a_folder_and_one_above_it_count_no_record_twice(tmp_path):
    (tmp_path / "deeper").mkdir()
    write_shard(tmp_path / "deeper" / "shard-00000.safetensors", [make_record(i) for i in range(6)])
    library = read_library([tmp_path, tmp_path / "deeper"], validation_share=0)
    assert len(library.training) == 6


def test_a_data_set_can_be_left_out_whole(tmp_path):
    write_shard(tmp_path / "shard-0.safetensors", [make_record(i, dataset="ab"[i % 2]) for i in range(8)])
    library = read_library([tmp_path], leave_out=["b"])
    assert {record.dataset for record in library.training} == {"a"}
    assert len(library.training) == 4
    assert {record.dataset for record in library.validation} == {"b"}


def test_a_data_set_to_leave_out_that_is_not_there_is_refused_and_the_known_ones_named(tmp_path):
    write_shard(tmp_path / "shard-0.safetensors", [make_record(i, dataset="ab"[i % 2]) for i in range(8)])
    with pytest.raises(InputError, match=r"--leave-out c: no record .*; known: a, b$"):
        read_library([tmp_path], leave_out=["b", "c"])


def test_a_folder_without_shards_and_a_library_without_training_are_refused(tmp_path):
    with pytest.raises(InputError, match="no shards"):
        read_library([tmp_path])
    write_shard(tmp_path / "shard-0.safetensors", [make_record()])
    with pytest.raises(InputError, match="every record went to validation"):
        read_library([tmp_path], leave_out=["d"])


def test_an_unfinished_preparation_is_refused_and_nothing_counts_twice(tmp_path):
    (tmp_path / "set" / "unfinished").mkdir(parents=True)
    for name in ("shard-00000.safetensors", "unfinished/shard-00000-000.safetensors"):
        write_shard(tmp_path / "set" / name, [make_record()])
    with pytest.raises(InputError, match=r"set: its preparation is not finished; run `segqa prepare` again"):
        read_library([tmp_path], validation_share=0)


def test_the_share_of_a_group_depends_on_its_name_only_and_spreads_evenly():
    shares = [group_share(f"group {i}") for i in range(2000)]
    assert shares == [group_share(f"group {i}") for i in range(2000)]
    assert abs(np.mean(np.array(shares) < 0.1) - 0.1) < 0.03
