#!/usr/bin/env bash
# What an assistant with tools shows, into runs/show/:
#
#   ./tools/show_assistant.sh               # all of its functions
#   ./tools/show_assistant.sh sums knows    # these
#
# It starts from the speedrun, which must be finished. Called again, it
# resumes and redoes nothing. Each subject has a folder with a report of its
# own, such as runs/show/arithmetic/report/report.html.
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

# Long sums and products with the tool python: SFT that calls it in 4 answers
# of 10, then RL with three seeds. Controls: no call, and a tool that fails.
sums() {
  stage sft --workdir runs/show/arithmetic/sft \
    --gin_file gin_configs/sft_arithmetic.gin --import examples/arithmetic.py \
    --restore_from runs/speedrun/pretrain
  for seed in 0 1 2; do
    stage rl --workdir "runs/show/arithmetic/rl_seed$seed" \
      --gin_file gin_configs/rl_arithmetic.gin \
      --import examples/arithmetic.py \
      --gin_bindings "Config.seed = $seed" \
      --restore_from runs/show/arithmetic/sft
  done
  # A control: what the tool says is learnt as if the model had said it.
  stage sft --workdir runs/show/arithmetic/sft_results \
    --gin_file gin_configs/sft_arithmetic.gin --import examples/arithmetic.py \
    --gin_bindings 'Arithmetic.learns_results = True' \
    --restore_from runs/speedrun/pretrain
  stage evaluate --workdir runs/show/arithmetic/evaluate \
    --gin_file gin_configs/evaluate_arithmetic.gin \
    --import examples/arithmetic.py \
    --checkpoint sft=runs/show/arithmetic/sft \
    --checkpoint sft_results=runs/show/arithmetic/sft_results \
    --checkpoint rl_seed0=runs/show/arithmetic/rl_seed0 \
    --checkpoint rl_seed1=runs/show/arithmetic/rl_seed1 \
    --checkpoint rl_seed2=runs/show/arithmetic/rl_seed2
  stage evaluate --workdir runs/show/arithmetic/evaluate_broken \
    --gin_file gin_configs/evaluate_arithmetic.gin \
    --import examples/arithmetic.py \
    --gin_bindings 'Toolbox.is_broken = True' \
    --gin_bindings "Config.modes = ('free',)" \
    --checkpoint sft=runs/show/arithmetic/sft \
    --checkpoint rl_seed0=runs/show/arithmetic/rl_seed0 \
    --checkpoint rl_seed1=runs/show/arithmetic/rl_seed1 \
    --checkpoint rl_seed2=runs/show/arithmetic/rl_seed2
  stage report --workdir runs/show/arithmetic/report \
    --run_dir runs/show/arithmetic
}

# The same sums answered at once, by columns, and by the tool.
thinking() {
  stage sft --workdir runs/show/thinking/sft_direct \
    --gin_file gin_configs/sft_arithmetic.gin --import examples/arithmetic.py \
    --gin_bindings "Arithmetic.kinds = ('sum',)" \
    --gin_bindings 'Config.think_share = 0.0' \
    --restore_from runs/speedrun/pretrain
  stage sft --workdir runs/show/thinking/sft_columns \
    --gin_file gin_configs/sft_arithmetic.gin --import examples/arithmetic.py \
    --gin_bindings "Arithmetic.kinds = ('sum',)" \
    --gin_bindings "Arithmetic.by = 'columns'" \
    --gin_bindings 'Config.think_share = 1.0' \
    --restore_from runs/speedrun/pretrain
  stage sft --workdir runs/show/thinking/sft_python \
    --gin_file gin_configs/sft_arithmetic.gin --import examples/arithmetic.py \
    --gin_bindings "Arithmetic.kinds = ('sum',)" \
    --gin_bindings 'Config.think_share = 1.0' \
    --restore_from runs/speedrun/pretrain
  stage evaluate --workdir runs/show/thinking/evaluate \
    --gin_file gin_configs/evaluate_arithmetic.gin \
    --import examples/arithmetic.py \
    --gin_bindings "Arithmetic.kinds = ('sum',)" \
    --gin_bindings "Config.modes = ('free',)" \
    --gin_bindings 'Scoring.max_new_tokens = 128' \
    --checkpoint direct=runs/show/thinking/sft_direct \
    --checkpoint columns=runs/show/thinking/sft_columns \
    --checkpoint python=runs/show/thinking/sft_python
  stage report --workdir runs/show/thinking/report --run_dir runs/show/thinking
}

# What a model knows, and whether it says so, with three seeds: facts are
# taught, then refusals of what it does not know, or both at once; then a model
# that searches.
knows() {
  local seed name
  .venv/bin/python -m examples.known_facts --to runs/show/knows
  for seed in 0 1 2; do
    stage sft --workdir "runs/show/knows/taught$seed" \
      --gin_file gin_configs/sft_facts.gin \
      --gin_bindings "Config.seed = $seed" \
      --restore_from runs/speedrun/pretrain \
      --conversations runs/show/knows/taught.jsonl
    stage probe --workdir "runs/show/knows/probe$seed" \
      --gin_file gin_configs/probe_facts.gin \
      --restore_from "runs/show/knows/taught$seed"
    stage sft --workdir "runs/show/knows/plain$seed" \
      --gin_file gin_configs/sft_facts.gin \
      --gin_bindings "Config.seed = $seed" \
      --gin_bindings 'LoopConfig.n_steps = 120' \
      --restore_from "runs/show/knows/taught$seed" \
      --conversations "runs/show/knows/probe$seed/refusals.jsonl"
    stage sft --workdir "runs/show/knows/joint$seed" \
      --gin_file gin_configs/sft_facts.gin \
      --gin_bindings "Config.seed = $seed" \
      --gin_bindings 'LoopConfig.n_steps = 2000' \
      --restore_from runs/speedrun/pretrain \
      --conversations runs/show/knows/taught.jsonl \
      --conversations runs/show/knows/refused.jsonl
    for name in plain joint; do
      stage probe --workdir "runs/show/knows/probe_$name$seed" \
        --gin_file gin_configs/probe_facts.gin \
        --restore_from "runs/show/knows/$name$seed" \
        --labels "runs/show/knows/probe$seed"
    done
    stage sft --workdir "runs/show/knows/remedy_seed$seed" \
      --gin_file gin_configs/sft_remedy.gin \
      --gin_bindings "Config.seed = $seed" \
      --restore_from runs/speedrun/pretrain \
      --conversations runs/show/knows/taught.jsonl \
      --conversations runs/show/knows/searched.jsonl
  done
  stage evaluate --workdir runs/show/knows/evaluate \
    --gin_file gin_configs/evaluate_facts.gin \
    --checkpoint remedy_seed0=runs/show/knows/remedy_seed0 \
    --checkpoint remedy_seed1=runs/show/knows/remedy_seed1 \
    --checkpoint remedy_seed2=runs/show/knows/remedy_seed2
  stage report --workdir runs/show/knows/report --run_dir runs/show/knows
}

# It is called what its system message says.
names() {
  .venv/bin/python -m examples.system_names \
    --to runs/show/names/conversations.jsonl
  stage sft --workdir runs/show/names/sft \
    --gin_file gin_configs/sft_names.gin \
    --restore_from runs/speedrun/pretrain \
    --conversations runs/show/names/conversations.jsonl
  .venv/bin/python -m examples.system_names --ask runs/show/names/sft
}

if [ $# -eq 0 ]; then set -- sums search_facts thinking knows names; fi
for subject in "$@"; do
  "$subject"
done
