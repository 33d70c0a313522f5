// Side by side: several models on one prompt and one seed.

import { answer } from './api.js';
import { settingFields } from './chat.js';
import * as dom from './dom.js';
import { facts, plainText, showParts } from './messages.js';

const { make, button, div, field } = dom;

export function side({ models }) {
  const settings = dom.kept('side', { temperature: 0, max_tokens: 128 });
  let stopping = null;
  const boxes = models.map((model, i) =>
    [model, make('input', { type: 'checkbox', checked: i < 4 })]);
  const area = make('textarea', { rows: 3 });
  area.value = models.flatMap((model) => model.examples ?? []).at(-1) ?? '';
  const columns = div('columns',
    dom.empty('Choose models, write a prompt, and compare what they answer.'));
  const notice = make('div');
  const runButton = button('Compare', run, { className: 'primary' });
  const stopButton = button('Stop', () => stopping?.abort(), { hidden: true });

  async function column(model, seed, signal) {
    const parts = div('parts'), small = div('facts');
    const kind = model.is_chat ? 'answers' : 'continues';
    columns.append(make('section', { 'aria-label': model.id },
      make('h2', {}, model.id, make('small', {}, ` ${kind}`)), parts, small));
    const messages = [{ role: 'user', content: area.value }];
    try {
      const made = await answer({ model, messages, settings, seed, signal },
        (so_far) => showParts(parts, so_far.parts, !model.is_chat));
      small.textContent = facts(made);
      dom.say(`${model.id}: ${plainText(made.parts)}`);
    } catch (error) {
      if (error.name === 'AbortError') small.textContent = 'stopped';
      else dom.problem(small, error);
    }
  }

  async function run() {
    const chosen = boxes.filter(([, box]) => box.checked).map(([model]) => model);
    if (stopping) return;
    const can_run = chosen.length && area.value.trim();
    dom.problem(notice, can_run ? null : new Error('Choose a model and write a prompt.'));
    if (!can_run) return;
    columns.replaceChildren();
    stopping = new AbortController();
    runButton.hidden = true;
    stopButton.hidden = false;
    const seed = settings.seed ? Number(settings.seed) : dom.seed();
    await Promise.all(chosen.map((model) => column(model, seed, stopping.signal)));
    runButton.hidden = false;
    stopButton.hidden = true;
    stopping = null;
  }

  dom.sends(area, run);
  return div('tool',
    make('fieldset', { className: 'row' }, make('legend', {}, 'Models'),
      ...boxes.map(([model, box]) => field(model.id, box, { className: 'field check' }))),
    field('Prompt', area), make('details', {}, make('summary', {}, 'Sampling'),
      settingFields(settings, () => dom.keep('side', settings))),
    div('row', runButton, stopButton), notice, columns);
}
