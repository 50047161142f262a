#!/usr/bin/env bash
# Compares scales, then trunks, of the detector after short trainings:  search_detector.sh DATA_FOLDER RUN_FOLDER
# Trains the first scale to the last with EfficientNet-Lite0, then other trunks at the packaged scale, 2 epochs each,
# and prints errors on laboratories left out and milliseconds per field (docs/performance.md has the table). Give the
# same command again to go on after an interruption.
set -euo pipefail
data=$1 run=$2 epochs=2
mkdir -p "$run"
[ -f "$run/rendered/truth.json" ] ||
    cellcount datasets render --out "$run/rendered" --fields 160 --size 480x480 --density 0.15-0.85 --seed 1
for trunk in tf_efficientnet_lite0 mobilenetv2_100; do
    [ -f "$run/$trunk.safetensors" ] || python3 -m tools.imagenet_weights "$trunk" "$run/$trunk.safetensors"
done
train() { # name, red-cell diameter in px, side of the crops in px, options
    local out=$run/$1 px=$2 side=$3 resume=()
    shift 3
    [ -f "$out/model.safetensors" ] && return
    [ -f "$out/last.checkpoint" ] && resume=(--resume)
    cellcount train detector "$data/txl-pbc" "$run/rendered" --out "$out" --recipe blood --epochs "$epochs" \
        --set rbc_diameter_px="$px" --set size_px="$side" --set harden=1 "$@" "${resume[@]}"
}
lite0=(--pretrained "$run/tf_efficientnet_lite0.safetensors")
train lite0-48 48 224 "${lite0[@]}"
train lite0-32 32 160 "${lite0[@]}"
train lite0-40 40 192 "${lite0[@]}"
train lite0-56 56 256 "${lite0[@]}"
train mobilenetv2-48 48 224 --set backbone=timm/mobilenetv2_100 --pretrained "$run/mobilenetv2_100.safetensors"
train scratch-48 48 224 --set backbone=timm/cs3darknet_s --set frozen=
models=("$run"/{lite0-32,lite0-40,lite0-48,lite0-56,mobilenetv2-48,scratch-48}/model.safetensors)
python3 -m benchmarks.unseen_laboratories "$data" --sets wbc-fields "draaslan, choose" --detector "${models[@]}"
for model in "${models[@]}"; do
    python3 benchmarks/speed.py --detector "$model" --precision fp32
done
