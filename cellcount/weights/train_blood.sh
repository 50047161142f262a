#!/usr/bin/env bash
# Trains the packaged blood model:  train_blood.sh TXL_PBC_FOLDER RUN_FOLDER
# Two CPU cores take about 90 minutes. Run it again to continue an interrupted training.
set -euo pipefail
data=$1 run=$2
[ -f "$run/rendered/truth.json" ] ||
    cellcount datasets render --out "$run/rendered" --fields 240 --size 480x480 --density 0.15-0.85 --seed 1
resume=()
[ -f "$run/blood/last.checkpoint" ] && resume=(--resume)
cellcount train detector "$data" "$run/rendered" --out "$run/blood" --recipe blood "${resume[@]}"
