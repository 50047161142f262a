#!/usr/bin/env bash
# Makes the packaged blood model:  train_blood.sh DATA_FOLDER RUN_FOLDER
# DATA_FOLDER holds txl-pbc, pbc and mll-marrow. Needs cellcount installed; two CPU cores take about
# three hours. Give the same command again to go on after an interruption. Leaves
# RUN_FOLDER/blood.safetensors, card completed from blood.json.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$1 run=$2
mkdir -p "$run"
[ -f "$run/imagenet.safetensors" ] ||
    python3 -m tools.imagenet_weights tf_efficientnet_lite0 "$run/imagenet.safetensors"
[ -f "$run/rendered/truth.json" ] ||
    cellcount datasets render --out "$run/rendered" --fields 160 --size 480x480 --density 0.15-0.85 --seed 1
train() { # recipe, run folder, further data and options
    local recipe=$1 out=$2 resume=()
    shift 2
    [ -f "$out/last.checkpoint" ] && resume=(--resume)
    cellcount train detector "$data/txl-pbc" "$run/rendered" --out "$out" --recipe "$recipe" "$@" "${resume[@]}"
}
train blood "$run/first" --pretrained "$run/imagenet.safetensors"
[ -f "$run/boxed/boxes.csv" ] ||
    python3 -m tools.boxed_cells "$data" "$run/boxed" --detector "$run/first/model.safetensors" --share 0.6
train blood-hard "$run/second" "$run/boxed" --init "$run/first"
python3 -m tools.average_weights "$run"/{first,second}/model.safetensors "$data/txl-pbc" "$run/mean.safetensors" \
    --share 0.75 --red-cell-hue
python3 -m tools.release_weights "$run/mean.safetensors" "$here/blood.json" "$run/blood.safetensors"
cellcount models check "$run/blood.safetensors"
