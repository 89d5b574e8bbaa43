#!/usr/bin/env bash
# Train on a Cloud TPU slice, and start anew whenever it is taken away.
#
#   launch/tpu_pod.sh --name=ffhq --zone=us-west4-a --accelerator_type=v5litepod-64 \
#       --runtime_version=v2-alpha-tpuv5-lite --nfs=10.0.0.2:/share -- \
#       --config=configs/ffhq.py --config.precision=bfloat16 \
#       --config.batch_size=auto --config.dataset.path=/mnt/msggan/images1024x1024 \
#       --config.dataset.data_dir=/mnt/msggan/data --workdir=/mnt/msggan/runs/ffhq
#
#   --name=NAME             of the queued resource and of the TPU VM
#   --zone=ZONE
#   --accelerator_type=TYPE
#   --runtime_version=VERSION
#   --nfs=HOST:/SHARE       a network disk (Filestore), seen by all workers as
#                           /mnt/msggan; data and workdir belong there. A new
#                           share becomes writable like /tmp
#   --spot=yes              the cheaper, preemptible kind; default yes
#   --restarts=N            how often to start again; default 100
#   --dry_run               print the commands of one start, do nothing
#
# What follows -- are the flags of msggan_jax.main. It needs gcloud with a
# project, copies the last commit to all workers, installs it and trains on all.
# The TPU is kept at the end; the last line says how to give it back.

set -euo pipefail
source "$(dirname "$0")/arguments.sh"
flags=(name zone accelerator_type runtime_version nfs spot restarts)
name='' zone='' accelerator_type='' runtime_version='' nfs='' spot=yes restarts=100
read_arguments "$@"
check_numbers 0 restarts
[[ $spot == yes || $spot == no ]] || fail "--spot=$spot: give yes or no"

first_pause=10 longest_pause=600 # seconds between attempts

archive=/tmp/$name.tar.gz
delete=(gcloud compute tpus queued-resources delete "$name" "--zone=$zone" --force --quiet)
create=(gcloud compute tpus queued-resources create "$name" "--node-id=$name"
  "--zone=$zone" "--accelerator-type=$accelerator_type"
  "--runtime-version=$runtime_version")
[[ $spot == no ]] || create+=(--spot)
train=$(quote .venv/bin/python -m msggan_jax.main --distributed "${main_flags[@]}")
# The images of TPU VMs have an older Python; uv brings one. At its first start a
# VM holds apt's lock for minutes. A new share belongs to root.
install="set -e; mkdir -p msggan_jax; tar -xzf $archive -C msggan_jax; cd msggan_jax
python3 -m pip install --quiet --user uv; test -d .venv || ~/.local/bin/uv venv --python=3.12
~/.local/bin/uv pip install --quiet -e '.[tpu]'
test -x /sbin/mount.nfs ||
  sudo apt-get -o DPkg::Lock::Timeout=900 install -qq -y nfs-common
sudo mkdir -p /mnt/msggan
mountpoint -q /mnt/msggan || sudo mount -t nfs $nfs /mnt/msggan
test -w /mnt/msggan || sudo chmod 1777 /mnt/msggan"

state() {
  gcloud compute tpus queued-resources describe "$name" "--zone=$zone" \
    "--format=value(state.state)" 2>/dev/null || echo ABSENT
}

on_all_workers() {
  run gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=all "--command=$1"
}

# Waits for a TPU of that name, creating it where there is none. Only the first
# failure can be wrong input; later ones mean that the cloud did not answer.
again=false
acquire() {
  if $dry_run; then run "${create[@]}" && return; fi
  while true; do
    case $(state) in
      ACTIVE) again=true && return ;;
      ABSENT) "${create[@]}" || $again ;;
      FAILED | SUSPENDED) "${delete[@]}" || $again ;;
    esac
    again=true
    sleep 30
  done
}

run git archive --format=tar.gz "--output=$archive" HEAD
pause=$first_pause
for ((attempt = 0; attempt <= restarts; attempt++)); do
  acquire
  began=$SECONDS code=0
  run gcloud compute tpus tpu-vm scp "$archive" "$name:$archive" "--zone=$zone" --worker=all &&
    on_all_workers "$install" &&
    on_all_workers "cd msggan_jax && $train" || code=$?
  # 0: done, 2: wrong input; after all else the TPU may be gone.
  if ((code == 0 || code == 2)); then break; fi
  echo "ended with code $code, attempt $((attempt + 1)) of $((restarts + 1))" >&2
  if ((attempt == restarts)); then break; fi
  # What fails at once would fail again at once.
  if ((SECONDS - began > longest_pause)); then pause=$first_pause; fi
  sleep "$pause"
  pause=$((2 * pause < longest_pause ? 2 * pause : longest_pause))
done
echo "to give the TPU back: ${delete[*]}"
exit "$code"
