import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save

from segqa.errors import InputError
from segqa.tensor_files import write_tensors

TENSORS = {"b": np.arange(6, dtype=np.float16).reshape(2, 3), "a": np.array([True, False]), "none": np.zeros((0, 4))}


def shuffled(metadata, order):
    """Return what `safetensors` would have saved, had its random order been this one."""
    content = save(TENSORS, metadata=metadata)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {name: metadata[name] for name in order}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=30), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_metadata_does_not_matter(tmp_path_factory, metadata, random):
    folder = tmp_path_factory.mktemp("files")
    order = list(metadata)
    random.shuffle(order)
    write_tensors(folder / "one.safetensors", save(TENSORS, metadata=metadata))
    write_tensors(folder / "two.safetensors", shuffled(metadata, order))
    assert (folder / "one.safetensors").read_bytes() == (folder / "two.safetensors").read_bytes()
    with safe_open(folder / "two.safetensors", framework="numpy") as file:
        assert file.metadata() == metadata
    read = load_file(folder / "two.safetensors")
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name], tensor)


def test_a_file_without_metadata_is_written_as_it_is(tmp_path):
    write_tensors(tmp_path / "plain.safetensors", save(TENSORS))
    assert (tmp_path / "plain.safetensors").read_bytes() == save(TENSORS)


def test_a_folder_in_the_way_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_tensors(tmp_path, save(TENSORS))
