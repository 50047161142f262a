#!/usr/bin/env bash
# Makes the packaged marrow model:  train_marrow.sh DATA_FOLDER RUN_FOLDER
# DATA_FOLDER holds txl-pbc, pbc and mll-marrow. Needs cellcount installed with its packaged detector
# blood, from which the training starts; two CPU cores take about 40 minutes. Give the same
# command again to go on after an interruption. Composes fields, trains, evaluates, and leaves
# RUN_FOLDER/marrow.safetensors, card completed from marrow.json.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$1 run=$2
mkdir -p "$run"
[ -f "$run/fields/blood/boxes.csv" ] ||
    python3 -m tools.marrow.make "$data" "$run/fields" --detector blood --seed 1
resume=()
[ -f "$run/train/last.checkpoint" ] && resume=(--resume)
cellcount train detector "$run/fields/composed" "$run/fields/blood" --out "$run/train" \
    --recipe marrow "${resume[@]}"
python3 -m tools.release_weights "$run/train/model.safetensors" "$here/marrow.json" \
    "$run/marrow.safetensors"
cellcount models check "$run/marrow.safetensors"
python3 -m benchmarks.marrow_fields "$data" "$run/fields/composed" \
    --detector blood "$run/marrow.safetensors" --look "$run/look" | tee "$run/evaluation.txt"
