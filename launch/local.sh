#!/usr/bin/env bash
# Train with several processes on this machine.
#
#   launch/local.sh --processes=2 -- --config=configs/demo.py \
#       --config.batch_size=auto
#
#   --processes=N  how many; default 2
#   --restarts=N   how often to start all again after a failure; default 3
#   --python=FILE  default python
#   --dry_run      print the commands, do nothing
#
# What follows -- are the flags of msggan_jax.main. Where CUDA_VISIBLE_DEVICES
# is set, each process takes an even share of it; JAX_NUM_CPU_DEVICES counts the
# CPU devices of each process. Ctrl-C and SIGTERM stop all with the state saved.

set -euo pipefail
source "$(dirname "$0")/arguments.sh"
flags=(processes restarts python)
processes=2 restarts=3 python=python
read_arguments "$@"
check_numbers 0 restarts
check_numbers 1 processes

IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES-}"
share=$((${#gpus[@]} / processes))
if ((${#gpus[@]} > 0 && share * processes != ${#gpus[@]})); then
  fail "${#gpus[@]} GPUs do not divide among $processes processes"
fi

free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
pids=()
stopping=false
# Interrupted children save their state and end with 75.
stop() {
  stopping=true signalled=true
  kill -TERM ${pids[@]+"${pids[@]}"} 2>/dev/null || true
}
trap stop INT TERM

# Sets `code`: 0 if all ended well, else the first other code.
train() {
  local port i pid one
  port=$("$python" -c "$free_port")
  pids=()
  for ((i = 0; i < processes; i++)); do
    local command=("$python" -m msggan_jax.main
      "--coordinator_address=127.0.0.1:$port" "--num_processes=$processes"
      "--process_id=$i" "${main_flags[@]}")
    if ((share)); then
      local ours=("${gpus[@]:i * share:share}")
      command=(env "CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${ours[*]}")" "${command[@]}")
    fi
    if $dry_run; then run "${command[@]}"; else "${command[@]}" & pids+=($!); fi
  done
  # The signal may have come before all had started.
  if $stopping; then stop; fi
  code=0
  for pid in ${pids[@]+"${pids[@]}"}; do
    # A trapped signal ends wait, but not the process.
    while signalled=false; do
      one=0
      wait "$pid" || one=$?
      $signalled || break
    done
    ((code)) || code=$one
  done
}

for ((attempt = 0; attempt <= restarts; attempt++)); do
  train
  # 0: done, 2: wrong input, 75: stopped on purpose.
  if [[ $code =~ ^(0|2|75)$ ]] || $stopping; then break; fi
  echo "a process ended with code $code after attempt $((attempt + 1)) of $((restarts + 1))" >&2
done
exit "$code"
