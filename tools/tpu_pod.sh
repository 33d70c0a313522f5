#!/usr/bin/env bash
# Trains on a TPU pod of Google Cloud, or on several slices of one kind:
#
#   export TPU_NAME=pod TPU_ZONE=us-west4-b TPU_TYPE=v5litepod-256
#   export TPU_SHARE=10.0.0.2:/share
#   ./tools/tpu_pod.sh --dry_run all experiments.pretrain --workdir runs/8b/pretrain
#
# It does one of
#
#   create             asks for the machines and waits until they are there
#   install            copies HEAD, makes .venv, mounts TPU_SHARE as runs/
#   launch RECIPE ...  starts the recipe on all hosts, where none is running
#   follow             shows the log of the first host
#   watch RECIPE ...   until it is done: after a preemption, all of it again
#   stop               SIGTERM: the recipe saves and ends
#   collect FOLDER     copies a folder of runs/ here
#   delete             gives the machines back
#   all RECIPE ...     create, install, launch, watch, collect, delete
#
# --dry_run prints every command instead. TPU_SHARE is an NFS share (Filestore)
# on which a --workdir outlives the machines; the same command resumes there.
# TPU_VERSION (of the machine image), TPU_SLICES (1) and TPU_OPTIONS (--spot)
# may be set too. It does NOT upload data: put it on the share.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/tpu_pod.sh >&2
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
: "${TPU_NAME:?a name for the machines}" "${TPU_ZONE:?such as us-west4-b}"
: "${TPU_TYPE:?such as v5litepod-256, v5p-128 or v6e-256}"
: "${TPU_SHARE:?an NFS share, as 10.0.0.2:/share}"
slices=${TPU_SLICES:-1}
read -ra options <<<"${TPU_OPTIONS:---spot}"
case $TPU_TYPE in
  v5lite*) version=v2-alpha-tpuv5-lite ;;
  v5p*) version=v2-alpha-tpuv5 ;;
  v6e*) version=v2-alpha-tpuv6e ;;
  *) version= ;;
esac
version=${TPU_VERSION:-$version}
[ -n "$version" ] || {
  echo "no image is known for TPU_TYPE $TPU_TYPE; set TPU_VERSION" >&2
  exit 2
}
tpus=(gcloud alpha compute tpus)
is_running='kill -0 $(cat llm_jax/train.pid) 2>/dev/null'

# Runs a command, or prints it.
run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

nodes() {
  local i
  if [ "$slices" = 1 ]; then
    echo "$TPU_NAME"
  else
    for ((i = 0; i < slices; i++)); do echo "$TPU_NAME-$i"; done
  fi
}

# Runs a command in the checkout of every host, of all slices at once.
everywhere() {
  local node pids=() pid
  for node in $(nodes); do
    run "${tpus[@]}" tpu-vm ssh "$node" --zone "$TPU_ZONE" --worker=all \
      --command "$1" &
    pids+=($!)
    # Printed commands come in order.
    if $dry_run; then wait "$!"; fi
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}

state() {
  "${tpus[@]}" queued-resources describe "$TPU_NAME" --zone "$TPU_ZONE" \
    --format 'value(state.state)' 2>/dev/null || echo NONE
}

create() {
  local where=(--node-id "$TPU_NAME")
  if [ "$slices" != 1 ]; then
    where=(--node-count "$slices" --node-prefix "$TPU_NAME")
  fi
  run "${tpus[@]}" queued-resources create "$TPU_NAME" --zone "$TPU_ZONE" \
    --accelerator-type "$TPU_TYPE" --runtime-version "$version" \
    "${where[@]}" "${options[@]}"
  $dry_run && return
  local now
  until now=$(state) && [ "$now" = ACTIVE ]; do
    case $now in
      FAILED | SUSPENDED | NONE)
        echo "$TPU_NAME is $now; see gcloud's quotas" >&2
        return 1
        ;;
    esac
    echo "$TPU_NAME is $now"
    sleep 60
  done
}

install() {
  local node archive=/tmp/llm_jax.tar.gz
  run git archive --format tar.gz --output "$archive" HEAD
  for node in $(nodes); do
    run "${tpus[@]}" tpu-vm scp "$archive" "$node:" --zone "$TPU_ZONE" \
      --worker=all
  done
  everywhere "set -e
mkdir -p llm_jax/runs && tar -xzf llm_jax.tar.gz -C llm_jax && cd llm_jax
sudo apt-get install -qqy nfs-common python3-venv
mountpoint -q runs || sudo mount -t nfs $TPU_SHARE runs
python3 -m venv .venv
.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[tpu]'"
}

# The recipe in a session of its own, so that it outlives this connection.
launch() {
  [ $# -gt 0 ] || usage
  local words
  printf -v words '%q ' "$@"
  everywhere "if $is_running; then echo 'already running'; exit 0; fi
cd llm_jax
setsid nohup .venv/bin/python -m $words--distributed auto >>train.log 2>&1 </dev/null &
echo \$! >train.pid"
}

first() {
  nodes | head -n 1
}

follow() {
  run "${tpus[@]}" tpu-vm ssh "$(first)" --zone "$TPU_ZONE" --worker=0 \
    --command 'tail -n 50 -F llm_jax/train.log'
}

stop() {
  everywhere 'kill -TERM $(cat llm_jax/train.pid)'
}

delete() {
  run "${tpus[@]}" queued-resources delete "$TPU_NAME" --zone "$TPU_ZONE" \
    --force --quiet
}

# The value of --workdir among a recipe's words.
workdir() {
  while [ $# -gt 1 ]; do
    if [ "$1" = --workdir ]; then echo "$2" && return; fi
    shift
  done
  echo 'the recipe needs --workdir FOLDER, in runs/' >&2
  return 2
}

is_done() {
  run "${tpus[@]}" tpu-vm ssh "$(first)" --zone "$TPU_ZONE" --worker=0 \
    --command "test -e llm_jax/$1/done.json"
}

watch() {
  local folder
  folder=$(workdir "$@") || exit
  if $dry_run; then
    is_done "$folder"
    echo '# after a preemption'
    delete
    create
    install
    launch "$@"
    return
  fi
  local n_starts=0
  until is_done "$folder"; do
    sleep 60
    if [ "$(state)" != ACTIVE ]; then
      echo "$TPU_NAME was taken away; everything again"
      delete || true
      create && install && launch "$@" || true
    elif ! everywhere "$is_running"; then
      # One that died takes the others with it; they start together.
      everywhere "cd llm_jax && kill -KILL \$(cat train.pid)" || true
      launch "$@" || true
    else
      continue
    fi
    n_starts=$((n_starts + 1))
    if [ "$n_starts" -ge 20 ]; then
      echo "started $n_starts times and not done; see train.log" >&2
      return 1
    fi
  done
}

collect() {
  [ $# -eq 1 ] || usage
  run mkdir -p "$(dirname "$1")"
  run "${tpus[@]}" tpu-vm scp --recurse "$(first):llm_jax/$1" "$1" \
    --zone "$TPU_ZONE" --worker=0
}

case $action in
  create | install | follow | stop | delete) "$action" ;;
  launch | watch | collect) "$action" "$@" ;;
  all)
    folder=$(workdir "$@")
    create
    install
    launch "$@"
    watch "$@"
    collect "$folder"
    delete
    ;;
  *) usage ;;
esac
