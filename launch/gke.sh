#!/usr/bin/env bash
# Train on TPUs of a Kubernetes cluster that has JobSet installed.
#
#   launch/gke.sh --name=ffhq --image=REGISTRY/msggan_jax:tpu \
#       --accelerator=tpu-v5-lite-podslice --topology=4x8 --hosts=8 --chips=4 \
#       --claim=shared -- --config=configs/ffhq.py --config.precision=bfloat16 \
#       --config.batch_size=auto --config.dataset.path=/data/images1024x1024 \
#       --config.dataset.data_dir=/data/sets --workdir=/data/runs/ffhq
#
#   --name=NAME         of the JobSet
#   --image=IMAGE       built from launch/Dockerfile with EXTRA=tpu
#   --accelerator=KIND  value of cloud.google.com/gke-tpu-accelerator
#   --topology=SHAPE    value of cloud.google.com/gke-tpu-topology
#   --hosts=N           machines of the slice, one process each
#   --chips=N           TPU chips of a machine; default 4
#   --claim=NAME        a ReadWriteMany volume claim, mounted as /data; data and
#                       workdir belong there, compiled programs are kept there
#   --restarts=N        how often to start again; default 100
#   --dry_run           print the manifest, do nothing
#
# What follows -- are the flags of msggan_jax.main. All pods run on one slice: one
# node pool, which no other JobSet of this kind shares.

set -euo pipefail
source "$(dirname "$0")/arguments.sh"
flags=(name image accelerator topology hosts chips claim restarts)
name='' image='' accelerator='' topology='' hosts='' chips=4 claim='' restarts=100
read_arguments "$@"
check_numbers 0 restarts
check_numbers 1 hosts chips

# Strings in YAML's double quotes.
arguments=()
for flag in --distributed "${main_flags[@]}"; do
  flag=${flag//\\/\\\\}
  arguments+=("\"${flag//\"/\\\"}\"")
done

manifest=$(
  cat <<END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: $restarts
    rules:
    - name: hopeless
      action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
  - name: train
    replicas: 1
    template:
      spec:
        parallelism: $hosts
        completions: $hosts
        backoffLimit: 0
        podFailurePolicy:
          rules:
          - action: FailJob
            onExitCodes:
              containerName: train
              operator: In
              values: [2]
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 90
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: $accelerator
              cloud.google.com/gke-tpu-topology: $topology
            containers:
            - name: train
              image: $image
              args: [$(IFS=, && echo "${arguments[*]}")]
              env:
              - name: JAX_COMPILATION_CACHE_DIR
                value: /data/compiled
              resources:
                limits:
                  google.com/tpu: $chips
              volumeMounts:
              - name: data
                mountPath: /data
            volumes:
            - name: data
              persistentVolumeClaim:
                claimName: $claim
END
)
if $dry_run; then
  echo "$manifest"
else
  kubectl apply -f - <<<"$manifest"
fi
