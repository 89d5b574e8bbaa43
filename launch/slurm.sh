#!/usr/bin/env bash
# Train on GPU nodes of a Slurm cluster; run it on a login node.
#
#   launch/slurm.sh --nodes=2 --gpus=8 --time=2-00:00:00 -- \
#       --config=configs/ffhq.py --config.batch_size=auto \
#       --config.dataset.path=/shared/images1024x1024 --workdir=/shared/runs/ffhq
#
#   --nodes=N      how many nodes; default 1
#   --gpus=N       GPUs of a node, one process each; default 8
#   --cpus=N       CPU cores for each process; default 8
#   --time=LIMIT   of the job, in Slurm's form; default 1-00:00:00
#   --job=NAME     default msggan
#   --restarts=N   how often the job is put back into the queue; default 100
#   --python=FILE  default python
#   --dry_run      print the command, do nothing
#
# What follows -- are the flags of msggan_jax.main. The workdir must be on a disk
# that all nodes see. Three minutes before the limit, and on preemption, the
# state is saved and the job goes back into the queue; a canceled job does not.
# Other options of sbatch can be given by its environment variables, such as
# SBATCH_PARTITION. It needs Slurm 21.08 or newer.

set -euo pipefail
source "$(dirname "$0")/arguments.sh"
flags=(nodes gpus cpus time job restarts python)
nodes=1 gpus=8 cpus=8 time=1-00:00:00 job=msggan restarts=100 python=python
read_arguments "$@"
check_numbers 0 restarts
check_numbers 1 nodes gpus cpus
# Seconds: the signal before the time limit, and from there to the requeue.
notice=180 patience=150

# srun returns the largest code. Code 2, wrong input, becomes the largest, because
# JAX aborts the others with 134 when the first process ends. A signal reaches the
# shells, too; they wait for their commands.
# shellcheck disable=SC2016
task='trap : TERM; "$@"; code=$?; [ $code -ne 2 ] || code=255; exit $code'
# Since 22.05 srun inherits no --cpus-per-task. Processes end each other: srun is
# not to kill those that still save.
train=$(quote srun --kill-on-bad-exit=0 "--cpus-per-task=$cpus" \
  sh -c "$task" task "$python" -m msggan_jax.main --distributed "${main_flags[@]}")
# The batch script, in POSIX sh. It passes a signal on by scancel, because srun
# answers SIGTERM by killing its tasks. A job that does not end then, as in a
# long save, is requeued all the same. A canceled job is not RUNNING any more.
read -rd '' batch <<END || true
requeue() {
  state=\$(squeue --noheader --format=%T --jobs="\$SLURM_JOB_ID")
  if [ "\$state" = RUNNING ] && [ "\${SLURM_RESTART_COUNT:-0}" -lt $restarts ]; then
    scontrol requeue "\$SLURM_JOB_ID"
  fi
}
stop() {
  signalled=yes
  trap signalled=yes TERM
  scancel --signal=TERM "\$SLURM_JOB_ID"
  # Not after the end of this shell: it would requeue the next start.
  { sleep $patience; kill -0 \$\$ && requeue; } 2>/dev/null &
}
trap stop TERM
$train&
train=\$!
# A trapped signal ends wait, but not the processes.
while signalled=no; do
  wait "\$train"
  code=\$?
  [ \$signalled = yes ] || break
done
[ \$code -ne 255 ] || code=2
# 0: done, 2: wrong input; all else may go better another time.
[ \$code -eq 0 ] || [ \$code -eq 2 ] || requeue
exit \$code
END
run sbatch "--job-name=$job" "--nodes=$nodes" "--ntasks-per-node=$gpus" \
  "--gpus-per-node=$gpus" "--cpus-per-task=$cpus" "--time=$time" \
  --requeue --open-mode=append "--signal=B:TERM@$notice" "--wrap=$batch"
