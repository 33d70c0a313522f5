#!/usr/bin/env bash
# What an assistant with tools shows, into runs/show/:
#
#   ./tools/show_assistant.sh
#
# It starts from the speedrun, which must be finished. Called again, it
# resumes and redoes nothing. Each subject is a function, called at the end,
# and has a folder with a report of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Runs a recipe; one that is finished says so and ends at once.
stage() {
  local name=$1
  shift
  printf '\n== %s\n' "$name $*"
  .venv/bin/python -m "experiments.$name" "$@"
}

# Facts that were never trained on, found by `search`; sums of them by `python`.
search_facts() {
  local seed
  .venv/bin/python -m examples.facts --to runs/show/facts/documents
  stage sft --workdir runs/show/facts/sft \
    --gin_file gin_configs/sft_search.gin --import examples/facts.py \
    --restore_from runs/speedrun/pretrain
  stage sft --workdir runs/show/facts/sft_steps \
    --gin_file gin_configs/sft_search_steps.gin --import examples/facts.py \
    --restore_from runs/show/facts/sft
  for seed in 0 1 2; do
    stage rl --workdir "runs/show/facts/rl_seed$seed" \
      --gin_file gin_configs/rl_search.gin --import examples/facts.py \
      --gin_bindings "Config.seed = $seed" --restore_from runs/show/facts/sft
  done
  stage rl --workdir runs/show/facts/rl_steps_seed0 \
    --gin_file gin_configs/rl_search_steps.gin --import examples/facts.py \
    --restore_from runs/show/facts/sft_steps
  stage evaluate --workdir runs/show/facts/evaluate \
    --gin_file gin_configs/evaluate_search.gin --import examples/facts.py \
    --checkpoint sft=runs/show/facts/sft \
    --checkpoint rl_seed0=runs/show/facts/rl_seed0 \
    --checkpoint rl_seed1=runs/show/facts/rl_seed1 \
    --checkpoint rl_seed2=runs/show/facts/rl_seed2
  # A page before the question: right, wrong, or of another name.
  stage evaluate --workdir runs/show/facts/evaluate_right \
    --gin_file gin_configs/evaluate_search.gin --import examples/facts.py \
    --gin_bindings "SearchFacts.given = 'right'" \
    --gin_bindings "Config.modes = ('free',)" \
    --checkpoint sft=runs/show/facts/sft \
    --checkpoint rl_seed0=runs/show/facts/rl_seed0
  stage evaluate --workdir runs/show/facts/evaluate_wrong \
    --gin_file gin_configs/evaluate_search.gin --import examples/facts.py \
    --gin_bindings "SearchFacts.given = 'wrong'" \
    --gin_bindings "Config.modes = ('free',)" \
    --checkpoint sft=runs/show/facts/sft \
    --checkpoint rl_seed0=runs/show/facts/rl_seed0
  stage evaluate --workdir runs/show/facts/evaluate_other \
    --gin_file gin_configs/evaluate_search.gin --import examples/facts.py \
    --gin_bindings "SearchFacts.given = 'other'" \
    --gin_bindings "Config.modes = ('free',)" \
    --checkpoint sft=runs/show/facts/sft \
    --checkpoint rl_seed0=runs/show/facts/rl_seed0
  # Three snippets, where one was trained on.
  stage evaluate --workdir runs/show/facts/evaluate_three \
    --gin_file gin_configs/evaluate_search.gin --import examples/facts.py \
    --gin_bindings 'Toolbox.n_snippets = 3' \
    --gin_bindings "Config.modes = ('free',)" \
    --checkpoint sft=runs/show/facts/sft \
    --checkpoint rl_seed0=runs/show/facts/rl_seed0
  stage evaluate --workdir runs/show/facts/evaluate_steps \
    --gin_file gin_configs/evaluate_search_steps.gin \
    --import examples/facts.py \
    --checkpoint sft_steps=runs/show/facts/sft_steps \
    --checkpoint rl_steps_seed0=runs/show/facts/rl_steps_seed0
  stage report --workdir runs/show/facts/report --run_dir runs/show/facts
}

search_facts
