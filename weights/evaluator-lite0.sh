#!/usr/bin/env bash
# Makes weights/evaluator-lite0.safetensors from ../shared/data (some hours on two cores).
# One thing was other when the shipped file was made: for sets that are not in `many`, LiteMedSAM's decoder ran in bfloat16
# too, not only its encoder.
set -euo pipefail
data=../shared/data
prepared=${1:-prepared}

declare -A many=([abdominal-ct-curvas]=48 [acdc-cardiac-mri]=48 [chest-ct-konya]=48 [dental-panoramic-teeth]=48
  [isic2017-subset]=48 [left-atrium-lge-mri]=48 [stu-hospital]=48 [usgra-nerve-vessel]=48 [wbc-jiangxi]=48)
declare -A others=([vocalfolds]=36 [isbi2012-em]=12)

for folder in "$data"/*/; do
  set=$(basename "$folder")
  grep -q '"split": "train"' "$folder/dataset.json" 2>/dev/null || continue
  # Masks of LiteMedSAM (exact, jittered and wrong boxes) on some images, ...
  segqa prepare "$folder" --out "$prepared/train/$set" --segmenter litemedsam --bfloat16 --box-jitter 0.2 \
    --min-side 8 --max-objects 3 --max-cases "${many[$set]:-${others[$set]:-22}}" --components
  # ... references to corrupt on the fly on all.
  segqa prepare "$folder" --out "$prepared/truth/$set" --segmenter none --box-jitter 0 --wrong-boxes 0 \
    --min-side 8 --max-objects 8 --max-cases 400 --components
done

# Four data sets are left out whole: to validate, and for honest intervals.
held=(--leave-out kidney-t2-mri-ukrin --leave-out lung-tumour-ct-msd --leave-out pancreas-t2-mri
  --leave-out dental-caries-dc1000)
export OMP_NUM_THREADS=1
torchrun --nproc-per-node 2 -m segqa train "$prepared" --out "$prepared/phase1.safetensors" "${held[@]}" \
  --size 128 --examples 90000 --batch-size 16
torchrun --nproc-per-node 2 -m segqa train "$prepared" --out weights/evaluator-lite0.safetensors "${held[@]}" \
  --size 160 --examples 24576 --batch-size 16 --learning-rate 5e-4 --initial "$prepared/phase1.safetensors" --seed 1 \
  --licence "CC BY-NC-SA 4.0, research only"
segqa calibrate-weights weights/evaluator-lite0.safetensors "$prepared"
