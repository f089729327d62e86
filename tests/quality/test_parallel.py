import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

from safetensors.numpy import load_file

from segqa.quality.weights_file import read_info

SMALL = ("--backbone", "test_efficientnet", "--size", 32, "--workers", 0, "--device", "cpu")

AVERAGE = """
import torch
from segqa.quality.parallel import add_up, average_gradients, decided_by_first, join, place

rank = join()
assert place() == (rank, 2)
a, b, unused = (torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (4,), (1,)))
(a.sum() * (rank + 1) + (b * torch.arange(4)).sum() * (3 - 2 * rank)).backward()
average_gradients([a, b, unused])
assert torch.equal(a.grad, torch.full((2, 3), 1.5)), a.grad
assert torch.equal(b.grad, torch.arange(4) * 2.0), b.grad
assert unused.grad is None
assert torch.equal(add_up(torch.tensor([rank + 1, 0])), torch.tensor([3, 0]))
assert decided_by_first(decision=rank == 0)
assert not decided_by_first(decision=rank == 1)
print("passed")
"""


RESUME = """
import torch
from dataclasses import replace
from pathlib import Path
from test_training import PLAN, make_trainer, phantom_record, weights_of
from segqa.quality.parallel import join

rank = join()
records = [phantom_record(seed) for seed in range(4)]
plan, state = replace(PLAN, examples=48, batch_size=8), Path("state")
whole = make_trainer(records, plan)
list(whole.run(report_every=16))
stopped = make_trainer(records, plan)
run = stopped.run(report_every=16)
next(run)
if rank == 0:
    stopped.save_state(state)
torch.distributed.barrier()
run.close()
resumed = make_trainer(records, plan)
resumed.load_state(state)
list(resumed.run(report_every=16))
assert resumed.done == 48
if rank == 0:
    assert all(torch.equal(tensor, weights_of(resumed)[name]) for name, tensor in weights_of(whole).items())
print("passed")
"""


def in_two_processes(*call, cwd):
    """Run a script or module as two processes that know each other."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # What the caller imports segqa from is kept: it may be another tree than the one that is installed.
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run([*start, *map(str, call)], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("script", [AVERAGE, RESUME], ids=["sums and decisions are shared", "resuming is exact"])
def test_two_processes_work_as_one(tmp_path, script):
    (tmp_path / "script.py").write_text(script)
    result = in_two_processes("script.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("passed") == 2


@pytest.mark.slow
def test_two_processes_train_one_network_the_same_each_time(prepared, tmp_path):
    call = ("-m", "segqa", "train", prepared, "--examples", 32, *SMALL, "--batch-size", 4)
    whole = in_two_processes(*call, "--out", tmp_path / "whole.safetensors", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout == f"{tmp_path}/whole.safetensors, its graph (whole.onnx) and card (whole.md) written\n"
    assert (tmp_path / "whole.md").read_text().startswith("# whole\n")
    assert whole.stderr.count("32/32 examples, loss ") == 1
    info = read_info(tmp_path / "whole.safetensors")
    assert info.card["examples"] == 32
    again = in_two_processes(*call, "--out", tmp_path / "again.safetensors", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    tensors = load_file(tmp_path / "whole.safetensors")
    assert all((tensors[name] == other).all() for name, other in load_file(tmp_path / "again.safetensors").items())


@pytest.mark.slow
def test_a_batch_that_does_not_split_is_refused(prepared, tmp_path):
    result = in_two_processes(
        "-m", "segqa", "train", prepared, "--out", "x.safetensors", *SMALL, "--batch-size", 5, cwd=tmp_path
    )
    assert result.returncode != 0
    assert "--batch-size 5: a multiple of the 2 processes was expected" in result.stderr
