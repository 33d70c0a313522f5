"""Conversations that a model writes, for experiments.sft.

  python -m experiments.synthesize --workdir runs/synthetic \
    --documents texts --endpoint http://localhost:8000/v1 --model NAME
  python -m experiments.synthesize --workdir runs/synthetic_smol \
    --topics topics.txt --checkpoint runs/smol

It writes questions with answers from documents, topics and personas, by the
templates of llm_jax/agent/synthesis.toml; or it answers the questions of
Config.task, and what the verifier calls right is kept. conversations.jsonl has
what is kept, rejected.jsonl the rest with the reason. Every answer is on disk
when it comes, and asked for once. Figures: how-to/synthetic_conversations.md.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from experiments import command_line
from llm_jax import dataclass_json, endpoint, files, record
from llm_jax.agent import any_task, synthesis, writers
from llm_jax.data import readers
from llm_jax.tasks import protocol


@dataclasses.dataclass(frozen=True)
class Config:
  """How many conversations, how they are written, and which are kept."""

  seed: int = 0  # of what is shown and drawn
  n: int = 100  # conversations that are wanted
  max_prompts: int = 0  # that are asked for them; 0: five for each
  batch_size: int = 16  # prompts that are answered together
  max_new_tokens: int = 256  # of an answer; one that has not ended is rejected
  temperature: float = 0.8  # 0 is greedy
  document_chars: int = 2000  # of a document that a prompt shows
  text_column: str = 'text'  # of documents in JSON lines and Parquet
  blank_lines: bool = False  # separate documents in .txt files
  rules: synthesis.Rules = synthesis.Rules()
  task: any_task.AnyTask | None = None  # whose questions are answered

  def __post_init__(self):
    names = 'n batch_size max_new_tokens document_chars'
    dataclass_json.require_at_least(self, names, 1)
    dataclass_json.require_at_least(self, 'max_prompts', 0)


def run(
  cfg: Config,
  workdir: str,
  checkpoint: str = '',
  endpoint: str = '',
  model: str = '',
  documents: str = '',
  topics: str = '',
  personas: str = '',
  templates: str = '',
) -> None:
  """Ask until enough is kept; the same workdir resumes."""
  if bool(checkpoint) == bool(endpoint) or bool(endpoint) != bool(model):
    raise ValueError('give --checkpoint, or --endpoint and --model')
  lists = {'topics': topics, 'personas': personas}
  named = {**lists, 'templates': templates}
  if cfg.task and (documents or any(named.values())):
    raise ValueError(
      'Config.task has questions of its own; leave out --documents, --topics, '
      '--personas and --templates'
    )
  if checkpoint:
    writer = writers.of_checkpoint(checkpoint, cfg.batch_size)
  else:
    writer = writers.of_endpoint(endpoint, model, cfg.batch_size)
  inputs = {flag: files.sha256(path) for flag, path in named.items() if path}
  inputs |= {'model': writer.who} | protocol.file_sums(cfg.task)
  if documents:
    inputs['documents'] = readers.fingerprint(documents)
  if record.begin(workdir, 'synthesize', cfg, inputs=inputs):
    logging.info('%s is finished', workdir)
    return
  # What fails may be tried again with other settings: answers stay.
  with record.correctable(workdir):
    shown = synthesis.read_templates(templates)
    n_prompts, seed = cfg.max_prompts or 5 * cfg.n, cfg.seed
    if cfg.task:
      prompts = synthesis.of_task(
        cfg.task, n_prompts, seed=seed, is_chat=writer.is_chat
      )
    else:
      form = readers.Form(cfg.text_column, cfg.blank_lines)
      prompts = synthesis.prompts(
        shown['prompts'],
        documents and synthesis.sample(documents, form, n_prompts, seed=seed),
        {k[:-1]: synthesis.read_lines(k, v) for k, v in lists.items() if v},
        document_chars=cfg.document_chars,
        seed=seed,
      )
    summary = write(
      cfg,
      pathlib.Path(workdir),
      writer,
      prompts=itertools.islice(prompts, n_prompts),
      judge=synthesis.Judge(cfg.rules, shown, cfg.task),
    )
  record.finish(workdir, summary)


def write(
  cfg: Config,
  workdir: pathlib.Path,
  writer: writers.Writer,
  prompts: Iterator[synthesis.Prompt],
  judge: synthesis.Judge,
) -> dict[str, Any]:
  """Asks, judges, and writes both files; what came of it, for the record."""
  answers = endpoint.Answers(workdir / 'answers.jsonl', writer.who)
  kept, rejected, n_asked = [], [], 0
  while len(kept) < cfg.n:
    batch = list(itertools.islice(prompts, cfg.batch_size))
    if not batch:
      break
    requests = [
      {
        'messages': prompt.messages,
        'seed': prompt.seed,
        'temperature': cfg.temperature,
        'max_tokens': cfg.max_new_tokens,
      }
      for prompt in batch
    ]
    replies = answers.get(requests, writer.ask_fn)
    for prompt, request, reply in zip(batch, requests, replies, strict=True):
      if len(kept) == cfg.n:
        break  # in the middle of a batch
      n_asked += 1
      origin = {'model': writer.name, **prompt.origin, 'request': request}
      try:
        messages = judge.conversation(prompt, reply)
        origin['rules'] = judge.rules
        kept.append({'messages': messages, 'origin': origin})
      except synthesis.Reject as fault:
        row = {'reason': str(fault), 'answer': reply.text, 'origin': origin}
        rejected.append(row)
    record.tick(workdir)
    logging.info('%d of %d answers are kept', len(kept), n_asked)
  files.write_jsonl(workdir / 'conversations.jsonl', kept)
  files.write_jsonl(workdir / 'rejected.jsonl', rejected)
  reasons = collections.Counter(row['reason'] for row in rejected)
  counts = {'kept': len(kept), **dict(reasons.most_common())}
  for name, count in counts.items():
    logging.info('%7d  %5.1f%%  %s', count, 100 * count / n_asked, name)
  path = workdir / 'run.json'
  files.write_json(path, {**files.read_json(path), 'counts': counts})
  result = f'{len(kept)} of {n_asked} answers are kept'
  if len(kept) < cfg.n:
    more = f'{cfg.n} are wanted: raise Config.max_prompts'
    logging.warning('%s; %s', result, more)
  if not kept:
    raise ValueError(f'{result}; see {workdir}/rejected.jsonl')
  return {'answers': n_asked, 'conversations': len(kept), 'result': result}


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    checkpoint='folder of the stage whose model writes',
    endpoint='or a server, as http://localhost:8000/v1; see OPENAI_API_KEY',
    model='what the server calls its model',
    documents='folder, file or pattern; held-out documents are not shown',
    topics='text file of topics, one a line',
    personas='text file of personas, one a line, such as: a child of ten',
    templates='TOML file in place of llm_jax/agent/synthesis.toml',
  )
