"""Where PyTorch computes: CUDA, MPS or the CPU, and what each is good at; `runtime` does without PyTorch."""

from __future__ import annotations

import torch

from segqa.errors import InputError


def choose_device(wanted: str) -> torch.device:
    """Return the device to compute on.

    Args:
        wanted: `auto` takes CUDA, then MPS, then the CPU; else a device as torch names it.

    Raises:
        InputError: When the device is unknown or not on this machine.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0][:120]
        msg = f"--device {wanted}: not available here ({reason}); use auto or cpu"
        raise InputError(msg) from error
    return device


def bfloat16_remark(device: torch.device) -> str | None:
    """Return why bfloat16 is no help on a device; `None` where it is."""
    if computes_in_bfloat16(device):
        return None
    return f"bfloat16: {device} has no instructions for it and is slower with it; use single precision"


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; emulated, it is far slower than single precision."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # The public `torch.cpu.get_capabilities` is newer than the oldest torch that segqa runs on.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
