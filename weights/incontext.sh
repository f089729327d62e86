#!/usr/bin/env bash
# Makes weights/incontext-w32.safetensors from ../shared/data (about an hour on one core). A killed run goes on.
set -euo pipefail
export OMP_NUM_THREADS=1
work=${1:-incontext}
python -m benchmarks.incontext ../shared/data "$work" --steps 7000 --small-steps 4000
python -m benchmarks.incontext.export "$work" ../shared/data weights/incontext-w32.safetensors
python -m benchmarks.incontext.card weights/incontext-w32.safetensors ../shared/data "$work"
