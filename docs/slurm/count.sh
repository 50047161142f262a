#!/bin/bash
# Counts the images of a folder in eight parts. Submit it with: sbatch count.sh SLIDES RESULTS
# and the merge after it:  sbatch --dependency=afterany:JOBID merge.sh RESULTS
# (afterany, since a shard with a damaged image ends with exit code 1, and its results are whole)
#SBATCH --job-name=cellcount
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --requeue
# SIGTERM comes before the time is up: the images in hand are finished and the tables are written.
#SBATCH --signal=TERM@120
set -euo pipefail

slides=$1 results=$2
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
mkdir -p "$results/parts"

# exec: the signal must reach cellcount, not this shell.
exec cellcount analyze "$slides" --shard slurm \
    --out "$results/parts/$SLURM_ARRAY_TASK_ID.csv" ${CELLCOUNT_OPTIONS:-}
