#!/bin/bash
# Merges what count.sh has counted. Submit it with: sbatch --dependency=afterany:JOBID merge.sh RESULTS
#SBATCH --job-name=cellcount-merge
#SBATCH --mem=8G
#SBATCH --time=01:00:00
set -euo pipefail

results=$1
exec cellcount merge "$results/parts" --out "$results/counts.csv" --cells "$results/cells.csv" \
    --coco "$results/coco.json" --slides "$results/slides.csv"
