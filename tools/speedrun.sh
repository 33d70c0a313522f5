#!/usr/bin/env bash
# The whole path on this machine: from raw pages to a model that reasons.
#
#   ./tools/speedrun.sh           runs every stage into runs/speedrun/; called
#                                 again, it resumes and redoes nothing
#   ./tools/speedrun.sh --fresh   deletes runs/speedrun/ first
#
# It needs no network once .venv is made. Each line below that starts with
# `stage` can be run alone as `.venv/bin/python -m experiments.NAME ...`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/venv.sh

STAGES='crawl clean tokenizer tokens pretrain sft rl_seed0 rl_seed1 rl_seed2
  rl_zero evaluate evaluate_talk report'

# Deletes the stages' folders, and refuses when anything else is there.
delete_run() {
  local path name
  for path in runs runs/speedrun; do
    if [ -L "$path" ] || { [ -e "$path" ] && [ ! -d "$path" ]; }; then
      echo "--fresh: $path is not a plain folder; remove it yourself" >&2
      exit 1
    fi
  done
  [ -d runs/speedrun ] || return 0
  for path in runs/speedrun/* runs/speedrun/.[!.]*; do
    name=${path##*/}
    if [ ! -e "$path" ] && [ ! -L "$path" ]; then
      continue # a pattern that matched nothing
    elif [ -L "$path" ] || [ ! -d "$path" ] ||
      ! echo " $STAGES " | tr '\n' ' ' | grep -q " $name "; then
      echo "--fresh: $path is no stage of the speedrun; move it away" >&2
      exit 1
    fi
  done
  for name in $STAGES; do
    rm -rf "runs/speedrun/${name:?}"
  done
}

# What each stage is for.
purpose() {
  case "$1" in
    crawl) echo "fetches the documentation of Python's standard library" ;;
    clean) echo 'keeps pages of English prose, one copy of each' ;;
    train_tokenizer) echo 'learns the pieces that its words are made of' ;;
    tokenize) echo 'turns pages, and sums asked in words, into numbers' ;;
    pretrain) echo 'a base model learns to continue pages and sums' ;;
    sft) echo 'it learns to converse, from demonstrations' ;;
    rl) echo 'it learns by trial, where only right answers count' ;;
    evaluate) echo 'asks checkpoints the same held-out problems' ;;
    report) echo 'makes one page of what all stages left' ;;
  esac
}

# Runs a recipe; one that is finished says so and ends at once.
stage() {
  local name=$1
  shift
  printf '\n== %s (%s): %s\n' "$name" "$2" "$(purpose "$name")"
  .venv/bin/python -m "experiments.$name" "$@"
}

case "$*" in
  '') ;;
  --fresh) delete_run ;;
  *)
    echo "unknown argument: $*; the only one is --fresh" >&2
    exit 2
    ;;
esac
make_venv web report
started=$(date +%s)

stage crawl --workdir runs/speedrun/crawl \
  --gin_file gin_configs/crawl_pydoc.gin
stage clean --workdir runs/speedrun/clean \
  --gin_file gin_configs/clean_pydoc.gin \
  --warc 'runs/speedrun/crawl/*.warc.gz'
stage train_tokenizer --workdir runs/speedrun/tokenizer \
  --gin_file gin_configs/train_tokenizer_tiny.gin \
  --documents runs/speedrun/clean
stage tokenize --workdir runs/speedrun/tokens \
  --gin_file gin_configs/tokenize_tiny.gin \
  --documents runs/speedrun/clean --tokenizer runs/speedrun/tokenizer
stage pretrain --workdir runs/speedrun/pretrain \
  --gin_file gin_configs/pretrain_tiny.gin \
  --tokens runs/speedrun/tokens --tokenizer runs/speedrun/tokenizer
stage sft --workdir runs/speedrun/sft \
  --gin_file gin_configs/sft_tiny.gin --import examples/assistant.py \
  --restore_from runs/speedrun/pretrain
for seed in 0 1 2; do
  stage rl --workdir "runs/speedrun/rl_seed$seed" \
    --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.seed = $seed" --restore_from runs/speedrun/sft
done
stage rl --workdir runs/speedrun/rl_zero \
  --gin_file gin_configs/rl_tiny.gin \
  --gin_bindings 'Config.task = @Addition()' \
  --restore_from runs/speedrun/pretrain
stage evaluate --workdir runs/speedrun/evaluate \
  --gin_file gin_configs/evaluate_tiny.gin \
  --tokens runs/speedrun/tokens \
  --checkpoint base=runs/speedrun/pretrain \
  --checkpoint sft=runs/speedrun/sft \
  --checkpoint rl_seed0=runs/speedrun/rl_seed0 \
  --checkpoint rl_seed1=runs/speedrun/rl_seed1 \
  --checkpoint rl_seed2=runs/speedrun/rl_seed2 \
  --checkpoint rl_zero=runs/speedrun/rl_zero
stage evaluate --workdir runs/speedrun/evaluate_talk \
  --gin_file gin_configs/evaluate_talk.gin --import examples/assistant.py \
  --checkpoint sft=runs/speedrun/sft \
  --checkpoint rl_seed0=runs/speedrun/rl_seed0 \
  --checkpoint rl_seed1=runs/speedrun/rl_seed1 \
  --checkpoint rl_seed2=runs/speedrun/rl_seed2
stage report --workdir runs/speedrun/report --run_dir runs/speedrun

seconds=$(($(date +%s) - started))
printf '\nDone in %d min %d s; to chat: %s\n' $((seconds / 60)) $((seconds % 60)) \
  '.venv/bin/python -m experiments.chat --restore_from runs/speedrun/rl_seed0'
