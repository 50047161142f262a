#!/usr/bin/env bash
# Makes the packaged classifiers:  train_types.sh PBC_FOLDER MLL_FOLDER RUN_FOLDER
# Needs cellcount installed; two CPU cores take about 100 minutes for the first and 20 for the second.
# Give the same command again to go on after an interruption. Leaves RUN_FOLDER/{blood,marrow}-types.safetensors,
# cards completed from the JSON files beside this script.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pbc=$(realpath "$1") mll=$(realpath "$2") run=$3
mkdir -p "$run"

# White cells of both laboratories as types of pbc-8. MLL's types that pbc-8 cannot name, and its val, stay out.
{
    echo "path,label,split,rbc_px"
    awk -F, -v folder="$pbc" 'NR > 1 {print folder "/" $1 "," $3 "," $2 ",70"}' "$pbc/splits.csv"
    awk -F, -v folder="$mll" '
        BEGIN {name["EOS"] = "eosinophil"; name["LYT"] = "lymphocyte"; name["MON"] = "monocyte"
               name["NGS"] = "neutrophil"; name["PMO"] = "ig"}
        $2 == "train" && $3 in name {print folder "/" $1 "," name[$3] ",train,85"}' "$mll/splits.csv"
} > "$run/both.csv"

train() { # recipe, run folder, data, further options
    local recipe=$1 out=$2 data=$3 resume=()
    shift 3
    [ -f "$out/last.checkpoint" ] && resume=(--resume)
    cellcount train classifier "$data" --out "$out" --recipe "$recipe" "$@" "${resume[@]}"
}
finish() { # name, run folder
    python3 -m cellcount.models.release "$2/model.safetensors" "$here/$1.json" "$run/$1.safetensors"
    cellcount models check "$run/$1.safetensors"
}
train blood-types "$run/first" "$pbc"
train blood-types-hard "$run/second" "$run/both.csv" --init "$run/first"
finish blood-types "$run/second"
train marrow-types "$run/marrow" "$mll" --init "$run/second"
finish marrow-types "$run/marrow"
