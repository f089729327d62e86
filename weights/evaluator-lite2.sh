#!/usr/bin/env bash
# Makes weights/evaluator-lite2.safetensors from ../shared/data (about three hours on two cores).
# In phases 1 and 2 slightly earlier code drew the records, not the labels, of a data set alike.
set -euo pipefail
data=../shared/data
prepared=${1:-prepared}

for folder in "$data"/*/; do
  set=$(basename "$folder")
  grep -q '"split": "train"' "$folder/dataset.json" 2>/dev/null || continue
  images=64
  case $set in
    kidney-t2-mri-ukrin | lung-tumour-ct-msd | pancreas-t2-mri | dental-caries-dc1000) images=24 ;;
  esac
  # Masks of LiteMedSAM (exact, jittered and wrong boxes), ...
  segqa prepare "$folder" --out "$prepared/train/$set" --segmenter litemedsam --bfloat16 --box-jitter 0.2 \
    --min-side 8 --max-objects 3 --max-cases "$images" --components
  # ... references to corrupt on the fly, ...
  segqa prepare "$folder" --out "$prepared/truth/$set" --segmenter none --box-jitter 0 --wrong-boxes 0 \
    --min-side 8 --max-objects 8 --max-cases 400 --components
  # ... and masks of task models without prompts, where a value is a label.
  grep -q '"mask_kind": "instance"' "$folder/dataset.json" && continue
  python -m benchmarks.task_predictions "$folder" "$prepared/predictions/$set"
  segqa prepare "$folder" --out "$prepared/task/$set" --segmenter none --box-jitter 0 --wrong-boxes 0 \
    --min-side 8 --max-objects 3 --max-cases 400 --predictions "task4=$prepared/predictions/$set/task4" \
    --predictions "task32=$prepared/predictions/$set/task32"
done

# Generated pictures: nothing to remember, only edges to see.
python -m benchmarks.generated_images "$prepared/pictures"
for folder in "$prepared"/pictures/*/; do
  set=$(basename "$folder")
  segqa prepare "$folder" --out "$prepared/generated/truth/$set" --segmenter none --box-jitter 0 --wrong-boxes 0 \
    --min-side 8 --max-objects 4 --components
  segqa prepare "$folder" --out "$prepared/generated/train/$set" --segmenter litemedsam --bfloat16 --box-jitter 0.2 \
    --min-side 8 --max-objects 3 --max-cases 64 --components
done

# Four data sets are left out whole: to validate, and for honest intervals.
held=(--leave-out kidney-t2-mri-ukrin --leave-out lung-tumour-ct-msd --leave-out pancreas-t2-mri
  --leave-out dental-caries-dc1000)
every=("$prepared/train" "$prepared/truth" "$prepared/task" "$prepared/generated")
common=("${held[@]}" --backbone tf_efficientnet_lite2 --workers 0)
export OMP_NUM_THREADS=1
train() { torchrun --nproc-per-node 2 -m segqa train "$@" "${common[@]}"; }
train "${every[@]:0:3}" --out "$prepared/phase1.safetensors" --size 128 --examples 180000 --batch-size 32
train "${every[@]:0:3}" --out "$prepared/phase2.safetensors" --size 160 --examples 80000 --batch-size 32 \
  --learning-rate 5e-4 --initial "$prepared/phase1.safetensors" --seed 1
train "${every[@]}" --out weights/evaluator-lite2.safetensors --size 160 --examples 64000 --batch-size 32 \
  --learning-rate 5e-4 --initial "$prepared/phase2.safetensors" --seed 2 --licence "CC BY-NC-SA 4.0, research only"
segqa calibrate-weights weights/evaluator-lite2.safetensors "${every[@]}"
