"""Who does the work, case by case: threads of this process, or the processes of a Ray cluster.

Results come in the order of the items and do not depend on who made them; few items are under way at a time, so that
memory does not grow with their number.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from segqa.errors import InputError, SegqaError, require

A = TypeVar("A")
B = TypeVar("B")
F = TypeVar("F")


class Workers(Protocol):
    """Those who do the work."""

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield the results in order; what `work` raises is raised here."""
        ...


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of this process."""

    number: int = 1

    def __str__(self) -> str:
        return f"{self.number} threads"

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield the results in order; see `Workers`."""
        with ThreadPoolExecutor(self.number) as pool:
            yield from _in_order(
                lambda item: pool.submit(work, item), Future.result, Future.cancel, items, at_once=2 * self.number
            )


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Processes of a Ray cluster, one for each core, on machines that share the files and have this segqa."""

    address: str
    """As Ray has it: `local` starts a cluster on this machine, `auto` finds the one that this machine belongs to."""
    at_once: int = 0
    """Items that are worked on at a time; 0: as many as the cluster has cores."""
    gpus: int = 0
    """GPUs that each process gets."""

    def __str__(self) -> str:
        return f"Ray cluster {self.address}"

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield the results in order; see `Workers`.

        Args:
            work: Must be fit for pickling; each process opens it once.
            items: Must be, too.

        Raises:
            InputError: `work` raises it; there is no such cluster; or a process is lost again and again.
        """
        ray = self.join()
        packed = [ray.put(work)]  # in a list, where Ray leaves it to the process when to open it
        job = (uuid4().hex, Path.cwd(), packed)
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus)(_work_there)
        at_once = self.at_once or 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        yield from _in_order(lambda item: remote.remote(*job, item), _wait, ray.cancel, items, at_once=at_once)

    def join(self) -> Any:
        """Join the cluster, or start it, and return the module `ray`.

        Raises:
            MissingExtraError: Ray is not installed.
            InputError: There is no such cluster.
        """
        require("ray", "--ray", extra="ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        import ray

        if ray.is_initialized():
            return ray
        own: dict[str, Any] = {"include_dashboard": False} if self.address == "local" else {}
        try:
            _knock(self.address)
            ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False, **own)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            fact = " ".join(str(error).split())[:200]
            msg = f"--ray {self.address}: no cluster there ({fact}); start one with 'ray start --head', or use local"
            raise InputError(msg) from error
        return ray


def choose_workers(number: int, *, ray: str | None = None, device: str = "cpu") -> Workers:
    """Return who shall work.

    Args:
        number: Threads, or items at a time of a cluster; 0 for as many as there are cores.
        ray: Address of a Ray cluster, which is joined at once; `None` for threads.
        device: Where they will compute, as torch names it.

    Raises:
        InputError: The number is negative, there is no such cluster, or the device is one of several GPUs.
    """
    if number < 0:
        msg = f"workers {number}: a number of threads was expected, or 0 for one each core"
        raise InputError(msg)
    return Threads(number or os.cpu_count() or 1) if ray is None else join_cluster(ray, at_once=number, device=device)


def join_cluster(address: str, *, at_once: int = 0, device: str = "cpu") -> RayCluster:
    """Return a Ray cluster that was joined, or started; arguments and errors as `choose_workers`."""
    if device.startswith("cuda:"):
        msg = f"--device {device}: Ray chooses which GPU a process gets, and shows it that one only; give cuda"
        raise InputError(msg)
    cluster = RayCluster(address, at_once, gpus=int(device == "cuda"))
    cluster.join()
    return cluster


def _knock(address: str) -> None:
    """Raise an `OSError` where nobody answers at `HOST:PORT`: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _in_order(
    submit: Callable[[A], F],
    wait: Callable[[F], B],
    cancel: Callable[[F], object],
    items: Iterable[A],
    *,
    at_once: int,
) -> Iterator[B]:
    under_way: deque[F] = deque()
    try:
        for item in items:
            under_way.append(submit(item))
            if len(under_way) >= at_once:
                yield wait(under_way.popleft())
        while under_way:
            yield wait(under_way.popleft())
    finally:
        for one in under_way:
            cancel(one)


_opened: dict[str, Any] = {}
"""In a process of a cluster: the work of the job that it is at."""


def _work_there(job: str, folder: Path, packed: list[Any], item: Any) -> tuple[Any, str | None]:
    """Return the result of an item, or the text of a user's error; runs in a process of the cluster."""
    if job not in _opened:
        import ray
        from threadpoolctl import threadpool_limits

        # Its core is its own, and last digits depend on the number of threads: of libraries that are there and to come.
        threadpool_limits(1, user_api="blas")
        os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            os.chdir(folder)  # where relative paths begin
        except OSError:
            return None, f"{folder}: not there on {platform.node()}; the machines must share the files"
        _opened.clear()
        _opened[job] = ray.get(packed[0])
    try:
        return _opened[job](item), None
    except SegqaError as error:
        return None, str(error)  # as text: Ray would put the whole traceback into the message


def _wait(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        result, problem = ray.get(reference)
    except RayTaskError:
        raise
    except RayError as error:
        fact = " ".join(str(error).split())[:200]
        msg = f"--ray: the cluster lost a process again and again ({fact}); mend it, what is done is kept for --resume"
        raise InputError(msg) from error
    if problem is not None:
        raise InputError(problem)
    return result
