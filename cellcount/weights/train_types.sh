#!/usr/bin/env bash
# Makes the packaged classifiers:  train_types.sh PBC_FOLDER MLL_FOLDER TXL_PBC_FOLDER RUN_FOLDER
# Needs cellcount installed; two CPU cores take about 125 minutes. Give the same command again to go on after an
# interruption. Leaves RUN_FOLDER/{blood,marrow}-types.safetensors, cards completed from the facts of the same names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pbc=$(realpath "$1") mll=$(realpath "$2") txl=$(realpath "$3") run=$4
mkdir -p "$run"

# White cells of four laboratories as types of pbc-8. MLL's types that pbc-8 cannot name stay out, as do the val
# splits of all but PBC. white_types.csv: boxes of TXL-PBC's train split, typed by eye by the makers of cellcount
# (no haematologist); cells that were not clear are left out.
{
    echo "file,split,class,rbc_px,x_min,y_min,x_max,y_max"
    awk -F, -v folder="$pbc" 'NR > 1 {print folder "/" $1 "," $2 "," $3 ",70,,,,"}' "$pbc/splits.csv"
    awk -F, -v RS='\r?\n' -v folder="$mll" '
        BEGIN {name["EOS"] = "eosinophil"; name["LYT"] = "lymphocyte"; name["MON"] = "monocyte"
               name["NGS"] = "neutrophil"; name["PMO"] = "ig"}
        $2 == "train" && $3 in name {print folder "/" $1 ",train," name[$3] ",85,,,,"}' "$mll/splits.csv"
    awk -F, -v folder="$txl/images" '
        NR > 1 {print folder "/" $1 ",train," $2 "," $3 "," $4 "," $5 "," $6 "," $7}' "$here/white_types.csv"
} > "$run/laboratories.csv"

train() { # recipe, run folder, data, further options
    local recipe=$1 out=$2 data=$3 resume=()
    shift 3
    [ -f "$out/last.checkpoint" ] && resume=(--resume)
    cellcount train classifier "$data" --out "$out" --recipe "$recipe" "$@" "${resume[@]}"
}
finish() { # name, run folder
    python3 -m tools.release_weights "$2/model.safetensors" "$here/$1.json" "$run/$1.safetensors"
    cellcount models check "$run/$1.safetensors"
}
train blood-types "$run/first" "$pbc"
train blood-types "$run/second" "$run/laboratories.csv" --init "$run/first" --epochs 40 --lr 0.001
finish blood-types "$run/second"
# From what learned PBC alone: the second part has seen the marrow cells that are held out here to choose by.
train marrow-types "$run/marrow" "$mll" --init "$run/first"
finish marrow-types "$run/marrow"
