#!/usr/bin/env bash
# Makes the packaged blood model:  train_blood.sh TXL_PBC_FOLDER RUN_FOLDER
# Needs cellcount installed; two CPU cores take about 100 minutes. Give the same command again to go
# on after an interruption. Leaves RUN_FOLDER/blood.safetensors, card completed from blood.json.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$1 run=$2
[ -f "$run/rendered/truth.json" ] ||
    cellcount datasets render --out "$run/rendered" --fields 160 --size 480x480 --density 0.15-0.85 --seed 1
train() { # recipe, run folder, further options
    local recipe=$1 out=$2 resume=()
    shift 2
    [ -f "$out/last.checkpoint" ] && resume=(--resume)
    cellcount train detector "$data" "$run/rendered" --out "$out" --recipe "$recipe" "$@" "${resume[@]}"
}
train blood "$run/first"
train blood-hard "$run/second" --init "$run/first"
python3 -m tools.average_weights "$run"/{first,second}/model.safetensors "$data" "$run/mean.safetensors"
python3 -m tools.release_weights "$run/mean.safetensors" "$here/blood.json" "$run/blood.safetensors"
cellcount models check "$run/blood.safetensors"
