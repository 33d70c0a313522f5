#!/usr/bin/env bash
# Trains on the GPU nodes of a Slurm cluster; the checkout lies on a disk that
# all nodes share:
#
#   ./tools/slurm.sh --dry_run launch experiments.pretrain --workdir runs/8b/pretrain
#
# It does one of
#
#   install            makes .venv with JAX for CUDA
#   launch RECIPE ...  queues the recipe, one process a GPU
#   follow FOLDER      shows the log of a --workdir
#   status             what is queued and running
#   stop JOB           SIGTERM: the recipe saves, and is not queued again
#   collect FOLDER TO  copies a folder, from the cluster if SLURM_HOST is set
#
# --dry_run prints every command instead. SLURM_NODES (1), SLURM_GPUS (8, of a
# node), SLURM_TIME (24:00:00) and SLURM_OPTIONS (such as --partition=gpu) may
# be set. A job that is preempted or runs out of time saves and is queued again
# until its recipe is done; one that fails is not. It does NOT choose a mesh.
set -euo pipefail
# Slurm runs a copy of this file, in the folder from which it was queued.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/slurm.sh >&2
  exit 2
}

dry_run=false
if [ "${1:-}" = --dry_run ]; then
  dry_run=true
  shift
fi
[ $# -gt 0 ] || usage
action=$1
shift

# Runs a command, or prints it.
run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# The value of --workdir among a recipe's words.
workdir() {
  while [ $# -gt 1 ]; do
    if [ "$1" = --workdir ]; then echo "$2" && return; fi
    shift
  done
  echo 'the recipe needs --workdir FOLDER, shared by all nodes' >&2
  return 2
}

install() {
  run python3 -m venv .venv
  run .venv/bin/pip install --quiet --constraint constraints.txt \
    --editable '.[cuda]'
}

# JAX finds the others by Slurm's variables and takes one GPU a process.
launch() {
  local folder options gpus=${SLURM_GPUS:-8}
  folder=$(workdir "$@") || exit
  read -ra options <<<"${SLURM_OPTIONS:-}"
  run mkdir -p "$folder"
  run sbatch --job-name "${folder##*/}" --nodes "${SLURM_NODES:-1}" \
    --ntasks-per-node "$gpus" --gpus-per-node "$gpus" \
    --time "${SLURM_TIME:-24:00:00}" --requeue --signal TERM@300 \
    --open-mode append --output "$folder/slurm.log" \
    ${options[@]+"${options[@]}"} tools/slurm.sh inside "$@"
  if $dry_run; then
    echo '# on the first node'
    inside "$@"
  fi
}

# What sbatch runs. A recipe that is told to stop saves and exits with 0.
inside() {
  local folder
  folder=$(workdir "$@") || exit
  run srun --kill-on-bad-exit=1 .venv/bin/python -m "$@" --distributed auto
  if $dry_run || [ ! -e "$folder/done.json" ]; then
    run scontrol requeue "${SLURM_JOB_ID:-JOB}"
  fi
}

stop() {
  [ $# -eq 1 ] || usage
  run scontrol update "jobid=$1" requeue=0
  run scancel --signal TERM "$1"
}

collect() {
  [ $# -eq 2 ] || usage
  run rsync --archive --partial "${SLURM_HOST:+$SLURM_HOST:}$1/" "$2/"
}

case $action in
  install) install ;;
  launch | inside | stop | collect) "$action" "$@" ;;
  follow)
    [ $# -eq 1 ] || usage
    run tail -n 50 -F "$1/slurm.log"
    ;;
  status) run squeue --me ;;
  *) usage ;;
esac
