#!/bin/bash
# Eight jobs that read a share each, and one that merges them and measures: sbatch --array=1-8 slurm-array.sh; then
#   sbatch --dependency=afterok:JOB --wrap "probe merge part*.h5 -o all.h5 && probe layerwise all.h5 -o result.nc"
#SBATCH --gpus=1 --cpus-per-task=8 --time=04:00:00 --signal=TERM@120 --requeue
exec probe collect resnet50 --weights IMAGENET1K_V2 --images images --num-workers 8 --overwrite \
    --shard "$SLURM_ARRAY_TASK_ID/8" --checkpoint sums.ck -o "part$SLURM_ARRAY_TASK_ID.h5"
