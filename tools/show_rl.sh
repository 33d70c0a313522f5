#!/usr/bin/env bash
# What reinforcement learning shows, with three seeds each, into runs/show/:
#
#   ./tools/show_rl.sh
#   ./tools/show_rl.sh gsm8k-train.jsonl.gz   # with word problems of this file
#
# It starts from the speedrun, which must be finished. Called again, it
# resumes and redoes nothing. Each subject has a report of its own, such as
# runs/show/countdown/report/report.html.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Runs a recipe; one that is finished says so and ends at once.
stage() {
  local name=$1
  shift
  printf '\n== %s\n' "$name $*"
  .venv/bin/python -m "experiments.$name" "$@"
}

# Countdown: what RL narrows.
stage sft --workdir runs/show/countdown/sft \
  --gin_file gin_configs/sft_countdown.gin --import examples/countdown.py \
  --restore_from runs/speedrun/pretrain
for seed in 0 1 2; do
  stage rl --workdir "runs/show/countdown/rl_seed$seed" \
    --gin_file gin_configs/rl_countdown.gin --import examples/countdown.py \
    --gin_bindings "Config.seed = $seed" \
    --restore_from runs/show/countdown/sft
done
stage evaluate --workdir runs/show/countdown/evaluate \
  --gin_file gin_configs/evaluate_countdown.gin --import examples/countdown.py \
  --tokens runs/speedrun/tokens \
  --checkpoint sft=runs/show/countdown/sft \
  --checkpoint rl_seed0=runs/show/countdown/rl_seed0 \
  --checkpoint rl_seed1=runs/show/countdown/rl_seed1 \
  --checkpoint rl_seed2=runs/show/countdown/rl_seed2
stage report --workdir runs/show/countdown/report \
  --run_dir runs/show/countdown

# Multiplication.
stage sft --workdir runs/show/multiplication/sft \
  --gin_file gin_configs/sft_multiplication.gin \
  --import examples/multiplication.py \
  --restore_from runs/speedrun/pretrain
for seed in 0 1 2; do
  stage rl --workdir "runs/show/multiplication/rl_seed$seed" \
    --gin_file gin_configs/rl_multiplication.gin \
    --import examples/multiplication.py \
    --gin_bindings "Config.seed = $seed" \
    --restore_from runs/show/multiplication/sft
done
stage evaluate --workdir runs/show/multiplication/evaluate \
  --gin_file gin_configs/evaluate_tiny.gin \
  --import examples/multiplication.py \
  --gin_bindings 'Config.task = @Multiplication()' \
  --tokens runs/speedrun/tokens \
  --checkpoint sft=runs/show/multiplication/sft \
  --checkpoint rl_seed0=runs/show/multiplication/rl_seed0 \
  --checkpoint rl_seed1=runs/show/multiplication/rl_seed1 \
  --checkpoint rl_seed2=runs/show/multiplication/rl_seed2
stage report --workdir runs/show/multiplication/report \
  --run_dir runs/show/multiplication

# Python functions, judged by their tests in the sandbox.
.venv/bin/python -m tools.make_functions --to runs/show/functions.jsonl
stage sft --workdir runs/show/functions/sft \
  --gin_file gin_configs/sft_functions.gin \
  --restore_from runs/speedrun/pretrain
for seed in 0 1 2; do
  stage rl --workdir "runs/show/functions/rl_seed$seed" \
    --gin_file gin_configs/rl_functions.gin \
    --gin_bindings "Config.seed = $seed" \
    --restore_from runs/show/functions/sft
done
stage evaluate --workdir runs/show/functions/evaluate \
  --gin_file gin_configs/evaluate_tiny.gin \
  --gin_bindings 'Config.task = @PythonFunctions()' \
  --gin_bindings "Config.questions = 'held_out'" \
  --gin_bindings "PythonFunctions.path = 'runs/show/functions.jsonl'" \
  --tokens runs/speedrun/tokens \
  --checkpoint sft=runs/show/functions/sft \
  --checkpoint rl_seed0=runs/show/functions/rl_seed0 \
  --checkpoint rl_seed1=runs/show/functions/rl_seed1 \
  --checkpoint rl_seed2=runs/show/functions/rl_seed2
stage report --workdir runs/show/functions/report \
  --run_dir runs/show/functions

# Addition: expert iteration and GRPO at equal budget, rewards at random, and
# RL without SFT. The speedrun has trained the others.
for seed in 0 1 2; do
  stage rl --workdir "runs/show/addition/expert_iteration_seed$seed" \
    --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.preset = 'expert_iteration'" \
    --gin_bindings "Config.seed = $seed" --restore_from runs/speedrun/sft
  stage rl --workdir "runs/show/addition/grpo_seed$seed" \
    --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.preset = 'grpo'" \
    --gin_bindings "Config.seed = $seed" --restore_from runs/speedrun/sft
  stage rl --workdir "runs/show/addition/random_seed$seed" \
    --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.reward = 'random'" \
    --gin_bindings "Config.seed = $seed" --restore_from runs/speedrun/sft
done
for seed in 1 2; do
  stage rl --workdir "runs/show/addition/rl_zero_seed$seed" \
    --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.seed = $seed" --restore_from runs/speedrun/pretrain
done
stage evaluate --workdir runs/show/addition/evaluate \
  --gin_file gin_configs/evaluate_tiny.gin \
  --gin_bindings 'Config.held_out_rows = 64' \
  --tokens runs/speedrun/tokens \
  --checkpoint base=runs/speedrun/pretrain \
  --checkpoint sft=runs/speedrun/sft \
  --checkpoint rl_seed0=runs/speedrun/rl_seed0 \
  --checkpoint rl_seed1=runs/speedrun/rl_seed1 \
  --checkpoint rl_seed2=runs/speedrun/rl_seed2 \
  --checkpoint expert_iteration_seed0=runs/show/addition/expert_iteration_seed0 \
  --checkpoint expert_iteration_seed1=runs/show/addition/expert_iteration_seed1 \
  --checkpoint expert_iteration_seed2=runs/show/addition/expert_iteration_seed2 \
  --checkpoint grpo_seed0=runs/show/addition/grpo_seed0 \
  --checkpoint grpo_seed1=runs/show/addition/grpo_seed1 \
  --checkpoint grpo_seed2=runs/show/addition/grpo_seed2 \
  --checkpoint random_seed0=runs/show/addition/random_seed0 \
  --checkpoint random_seed1=runs/show/addition/random_seed1 \
  --checkpoint random_seed2=runs/show/addition/random_seed2 \
  --checkpoint rl_zero_seed0=runs/speedrun/rl_zero \
  --checkpoint rl_zero_seed1=runs/show/addition/rl_zero_seed1 \
  --checkpoint rl_zero_seed2=runs/show/addition/rl_zero_seed2
stage report --workdir runs/show/addition/report \
  --run_dir runs/show/addition

# Addition once more, each seed with a base model and an SFT of its own.
for seed in 1 2; do
  stage pretrain --workdir "runs/show/paths/pretrain_seed$seed" \
    --gin_file gin_configs/pretrain_tiny.gin \
    --gin_bindings "Config.seed = $seed" \
    --tokens runs/speedrun/tokens --tokenizer runs/speedrun/tokenizer
  stage sft --workdir "runs/show/paths/sft_seed$seed" \
    --gin_file gin_configs/sft_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.seed = $seed" \
    --restore_from "runs/show/paths/pretrain_seed$seed"
  stage rl --workdir "runs/show/paths/rl_seed$seed" \
    --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py \
    --gin_bindings "Config.seed = $seed" \
    --restore_from "runs/show/paths/sft_seed$seed"
done
stage evaluate --workdir runs/show/paths/evaluate \
  --gin_file gin_configs/evaluate_tiny.gin \
  --tokens runs/speedrun/tokens \
  --checkpoint pretrain_seed0=runs/speedrun/pretrain \
  --checkpoint pretrain_seed1=runs/show/paths/pretrain_seed1 \
  --checkpoint pretrain_seed2=runs/show/paths/pretrain_seed2 \
  --checkpoint sft_seed0=runs/speedrun/sft \
  --checkpoint sft_seed1=runs/show/paths/sft_seed1 \
  --checkpoint sft_seed2=runs/show/paths/sft_seed2 \
  --checkpoint rl_seed0=runs/speedrun/rl_seed0 \
  --checkpoint rl_seed1=runs/show/paths/rl_seed1 \
  --checkpoint rl_seed2=runs/show/paths/rl_seed2
stage report --workdir runs/show/paths/report --run_dir runs/show/paths

# Word problems in GSM8K's form, by a model with room for their length.
if [ $# -eq 1 ]; then
  stage pretrain --workdir runs/show/gsm8k/pretrain \
    --gin_file gin_configs/pretrain_tiny.gin \
    --gin_bindings 'ModelConfig.max_length = 640' \
    --gin_bindings 'LoopConfig.n_steps = 100' \
    --tokens runs/speedrun/tokens --tokenizer runs/speedrun/tokenizer
  stage sft --workdir runs/show/gsm8k/sft \
    --gin_file gin_configs/sft_gsm8k.gin \
    --gin_bindings "WordProblems.path = '$1'" \
    --restore_from runs/show/gsm8k/pretrain
  for seed in 0 1 2; do
    stage rl --workdir "runs/show/gsm8k/rl_seed$seed" \
      --gin_file gin_configs/rl_gsm8k.gin \
      --gin_bindings "WordProblems.path = '$1'" \
      --gin_bindings "Config.seed = $seed" --restore_from runs/show/gsm8k/sft
  done
  stage evaluate --workdir runs/show/gsm8k/evaluate \
    --gin_file gin_configs/evaluate_gsm8k.gin \
    --gin_bindings "WordProblems.path = '$1'" \
    --tokens runs/speedrun/tokens \
    --checkpoint sft=runs/show/gsm8k/sft \
    --checkpoint rl_seed0=runs/show/gsm8k/rl_seed0 \
    --checkpoint rl_seed1=runs/show/gsm8k/rl_seed1 \
    --checkpoint rl_seed2=runs/show/gsm8k/rl_seed2
  stage report --workdir runs/show/gsm8k/report \
    --run_dir runs/show/gsm8k
fi
