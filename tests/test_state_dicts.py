import numpy as np
import pytest

from segqa.errors import InputError
from segqa.state_dicts import check_finite


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_arrays_and_tensors_with_values_that_are_not_finite_are_refused(poison):
    torch = pytest.importorskip("torch")
    fine = {"count": np.array(3), "empty": np.zeros((0, 2), np.float32), "half": np.full(4, 65504, np.float16)}
    tensors = {name: torch.tensor(array) for name, array in fine.items()}
    for state in (fine, tensors):
        check_finite(state, source="a.safetensors")
        state["half"][2] = poison
        with pytest.raises(InputError, match=r"dir/a\.safetensors: 1 tensors hold NaN or infinite values \(half\)"):
            check_finite(state, source="dir/a.safetensors")
