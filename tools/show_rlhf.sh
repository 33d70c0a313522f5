#!/usr/bin/env bash
# What RL by a reward model shows, mostly with three seeds, into runs/show/:
#
#   ./tools/show_rlhf.sh               # all of it
#   ./tools/show_rlhf.sh taste         # a policy that climbs a reward model
#   ./tools/show_rlhf.sh ease          # the same on real text, one seed
#   ./tools/show_rlhf.sh keeps         # RL that keeps what the model was
#
# It starts from the speedrun, which must be finished. Called again, it
# resumes and redoes nothing. The reports are runs/show/rlhf/report/report.html
# and runs/show/keeps/report/report.html.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Runs a recipe; one that is finished says so and ends at once.
stage() {
  local name=$1
  shift
  printf '\n== %s\n' "$name $*"
  .venv/bin/python -m "experiments.$name" "$@"
}

# A hidden taste ranks answers, a reward model learns the rankings, and a
# policy climbs it, with a KL and without. Best of n and DPO stand beside.
taste() {
  local seed
  .venv/bin/python -m examples.taste --to runs/show/rlhf
  stage sft --workdir runs/show/rlhf/sft \
    --gin_file gin_configs/sft_taste.gin \
    --restore_from runs/speedrun/pretrain \
    --conversations runs/show/rlhf/conversations.jsonl
  .venv/bin/python -m examples.taste --to runs/show/rlhf \
    --policy runs/show/rlhf/sft
  stage reward_model --workdir runs/show/rlhf/reward_model \
    --gin_file gin_configs/reward_model_taste.gin \
    --restore_from runs/show/rlhf/sft \
    --preferences runs/show/rlhf/rankings.jsonl
  stage dpo --workdir runs/show/rlhf/dpo \
    --gin_file gin_configs/dpo_taste.gin \
    --restore_from runs/show/rlhf/sft \
    --preferences runs/show/rlhf/rankings.jsonl
  .venv/bin/python -m examples.taste --to runs/show/rlhf \
    --policy runs/show/rlhf/sft --dpo runs/show/rlhf/dpo \
    --reward_model runs/show/rlhf/reward_model
  for seed in 0 1 2; do
    stage rl --workdir "runs/show/rlhf/rl_seed$seed" \
      --gin_file gin_configs/rl_taste.gin --import examples/taste.py \
      --gin_bindings "Config.seed = $seed" \
      --restore_from runs/show/rlhf/sft \
      --reward_model runs/show/rlhf/reward_model
    stage rl --workdir "runs/show/rlhf/rl_kl_seed$seed" \
      --gin_file gin_configs/rl_taste.gin --import examples/taste.py \
      --gin_bindings 'Algorithm.kl_in_reward = 0.1' \
      --gin_bindings "Config.seed = $seed" \
      --restore_from runs/show/rlhf/sft \
      --reward_model runs/show/rlhf/reward_model
  done
  stage report --workdir runs/show/rlhf/report --run_dir runs/show/rlhf
  .venv/bin/python -m examples.taste --to runs/show/rlhf \
    --last runs/show/rlhf/rl_seed0
}

# The same on real text: sentences of the pages, of which a formula says how
# easily they are read.
ease() {
  .venv/bin/python -m examples.ease --to runs/show/ease
  stage sft --workdir runs/show/ease/sft \
    --gin_file gin_configs/sft_ease.gin \
    --restore_from runs/speedrun/pretrain \
    --conversations runs/show/ease/conversations.jsonl
  .venv/bin/python -m examples.ease --to runs/show/ease \
    --policy runs/show/ease/sft
  stage reward_model --workdir runs/show/ease/reward_model \
    --gin_file gin_configs/reward_model_ease.gin \
    --restore_from runs/show/ease/sft \
    --preferences runs/show/ease/rankings.jsonl
  .venv/bin/python -m examples.ease --to runs/show/ease \
    --policy runs/show/ease/sft --reward_model runs/show/ease/reward_model
  stage rl --workdir runs/show/ease/rl_seed0 \
    --gin_file gin_configs/rl_ease.gin --import examples/ease.py \
    --restore_from runs/show/ease/sft \
    --reward_model runs/show/ease/reward_model
  stage rl --workdir runs/show/ease/rl_kl_seed0 \
    --gin_file gin_configs/rl_ease.gin --import examples/ease.py \
    --gin_bindings 'Algorithm.kl_in_reward = 0.02' \
    --restore_from runs/show/ease/sft \
    --reward_model runs/show/ease/reward_model
  stage report --workdir runs/show/ease/report --run_dir runs/show/ease
  .venv/bin/python -m examples.ease --to runs/show/ease \
    --last runs/show/ease/rl_seed0
}

# RL on sums alone, with demonstrations of what else SFT taught beside, and
# without: how many sums are right, and what it still knows of the rest. Of
# three base models, each with the seed of its number in every stage.
keeps() {
  local seed base sft
  for seed in 0 1 2; do
    base=runs/speedrun/pretrain sft=runs/speedrun/sft
    if [ "$seed" != 0 ]; then
      base=runs/show/keeps/base_seed$seed sft=runs/show/keeps/sft_seed$seed
      stage pretrain --workdir "$base" \
        --gin_file gin_configs/pretrain_tiny.gin \
        --gin_bindings "Config.seed = $seed" \
        --tokens runs/speedrun/tokens --tokenizer runs/speedrun/tokenizer
      stage sft --workdir "$sft" --gin_file gin_configs/sft_tiny.gin \
        --import examples/assistant.py \
        --gin_bindings "Config.seed = $seed" --restore_from "$base"
    fi
    .venv/bin/python -m examples.kept --of "$sft/conversations" \
      --to "runs/show/keeps/kept$seed.jsonl"
    stage rl --workdir "runs/show/keeps/rl_seed$seed" \
      --gin_file gin_configs/rl_tiny.gin \
      --gin_bindings 'Config.task = @Addition()' \
      --gin_bindings "Config.seed = $seed" --restore_from "$sft"
    stage rl --workdir "runs/show/keeps/rl_ptx_seed$seed" \
      --gin_file gin_configs/rl_tiny.gin \
      --gin_bindings 'Config.task = @Addition()' \
      --gin_bindings "Config.seed = $seed" --restore_from "$sft" \
      --conversations "runs/show/keeps/kept$seed.jsonl"
  done
  stage evaluate --workdir runs/show/keeps/evaluate \
    --gin_file gin_configs/evaluate_tiny.gin \
    --gin_bindings "Config.modes = ('free',)" \
    --checkpoint sft_seed0=runs/speedrun/sft \
    --checkpoint rl_seed0=runs/show/keeps/rl_seed0 \
    --checkpoint rl_ptx_seed0=runs/show/keeps/rl_ptx_seed0 \
    --checkpoint sft_seed1=runs/show/keeps/sft_seed1 \
    --checkpoint rl_seed1=runs/show/keeps/rl_seed1 \
    --checkpoint rl_ptx_seed1=runs/show/keeps/rl_ptx_seed1 \
    --checkpoint sft_seed2=runs/show/keeps/sft_seed2 \
    --checkpoint rl_seed2=runs/show/keeps/rl_seed2 \
    --checkpoint rl_ptx_seed2=runs/show/keeps/rl_ptx_seed2
  stage evaluate --workdir runs/show/keeps/evaluate_talk \
    --gin_file gin_configs/evaluate_talk.gin --import examples/assistant.py \
    --gin_bindings 'Scoring.n_problems = 300' \
    --checkpoint sft_seed0=runs/speedrun/sft \
    --checkpoint rl_seed0=runs/show/keeps/rl_seed0 \
    --checkpoint rl_ptx_seed0=runs/show/keeps/rl_ptx_seed0 \
    --checkpoint sft_seed1=runs/show/keeps/sft_seed1 \
    --checkpoint rl_seed1=runs/show/keeps/rl_seed1 \
    --checkpoint rl_ptx_seed1=runs/show/keeps/rl_ptx_seed1 \
    --checkpoint sft_seed2=runs/show/keeps/sft_seed2 \
    --checkpoint rl_seed2=runs/show/keeps/rl_seed2 \
    --checkpoint rl_ptx_seed2=runs/show/keeps/rl_ptx_seed2
  stage report --workdir runs/show/keeps/report --run_dir runs/show/keeps
}

if [ $# -eq 0 ]; then set -- taste ease keeps; fi
for subject in "$@"; do
  "$subject"
done
