"""How fast `segqa score` is and how much memory it takes, as whole processes.

    python -m benchmarks.throughput --cases 500 5000

Scores generated 512 x 512 images, one object each, and prints objects a second (start-up included) and the peak memory
of the process. Few pictures are generated; the cases are copies of them, which changes nothing for a process that does
not know.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from benchmarks.processes import measure
from segqa.data.masks import write_mask
from segqa.phantoms import make_phantom

N_PICTURES = 20


def write_cases(folder: Path, n_cases: int, side: int) -> None:
    """Write `images/` and `masks/` of so many cases."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for index in range(n_cases):
        image, mask = folder / f"images/{index:05d}.png", folder / f"masks/{index:05d}.png"
        if index < N_PICTURES:
            phantom = make_phantom(np.random.default_rng(index), side=side)
            PillowImage.fromarray(phantom.image[..., 0]).save(image)
            write_mask(mask, (phantom.truth == 1).astype(np.int32))
        else:
            shutil.copy(folder / f"images/{index % N_PICTURES:05d}.png", image)
            shutil.copy(folder / f"masks/{index % N_PICTURES:05d}.png", mask)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[500])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("options", nargs="*", help="passed on to `segqa score`, after --")
    arguments = parser.parse_args()
    for n_cases in arguments.cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_cases(folder, n_cases, arguments.side)
            call = ["score", "images", "masks", "--format", "json", *arguments.options]
            wall, cpu, peak = measure(call, folder)
        print(
            f"{n_cases} images of {arguments.side} x {arguments.side}: {n_cases / wall:.1f} objects a second, "
            f"{1000 * cpu / n_cases:.1f} ms CPU an object, peak {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
