from pathlib import Path

import pytest

from segqa import runtime


@pytest.mark.parametrize("driver", ["/dev/nvidiactl", "/dev/kfd", "/dev/dxg"])
def test_a_driver_s_device_is_reason_to_ask_torch_for_a_gpu(monkeypatch, driver):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == driver)
    assert runtime._may_have_gpu()
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert not runtime._may_have_gpu()
