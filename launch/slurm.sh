#!/usr/bin/env bash
# Train on GPU nodes of a Slurm cluster; run it on a login node.
#
#   launch/slurm.sh --nodes=2 --gpus=8 --time=2-00:00:00 -- \
#       --config=configs/ffhq.py --workdir=/shared/runs/ffhq
#
#   --nodes=N      how many nodes; default 1
#   --gpus=N       GPUs of a node, one process each; default 8
#   --cpus=N       CPU cores for each process; default 8
#   --time=LIMIT   of the job, in Slurm's form; default 1-00:00:00
#   --job=NAME     default msggan
#   --restarts=N   how often the job is put back into the queue after a failure;
#                  default 100
#   --python=FILE  default python
#   --dry_run      print the command, do nothing
#
# What follows -- are the flags of msggan_jax.main. The workdir must be on a disk
# that all nodes see. Two minutes before the limit, and on preemption, the state
# is saved and the job goes back into the queue. Other options of sbatch can be
# given by its environment variables, such as SBATCH_PARTITION.

set -euo pipefail
source "$(dirname "$0")/arguments.sh"
flags=(nodes gpus cpus time job restarts python)
nodes=1 gpus=8 cpus=8 time=1-00:00:00 job=msggan restarts=100 python=python
read_arguments "$@"

printf -v train '%q ' "$python" -m msggan_jax.main --distributed "${main_flags[@]}"
# 0: done, 2: wrong input; all else may go better another time. srun leaves it to
# the processes to end each other: those that still save are not to be killed.
batch="code=0
srun --kill-on-bad-exit=0 $train|| code=\$?
if [ \$code -ne 0 ] && [ \$code -ne 2 ] && [ \${SLURM_RESTART_COUNT:-0} -lt $restarts ]; then
  scontrol requeue \$SLURM_JOB_ID
fi
exit \$code"
run sbatch "--job-name=$job" "--nodes=$nodes" "--ntasks-per-node=$gpus" \
  "--gpus-per-node=$gpus" "--cpus-per-task=$cpus" "--time=$time" \
  --requeue --open-mode=append --signal=TERM@120 "--wrap=$batch"
