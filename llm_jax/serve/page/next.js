// Next token: what a model finds likely at a place, and what sampling makes of it.

import { nextTokens, post, tokenTexts } from './api.js';
import * as dom from './dom.js';
import { blanks, strip } from './strip.js';

const { make, button, div, field } = dom;
const RULES = [
  ['temperature', 'Temperature', [0, 2, 0.05], 1], ['top_k', 'Top-k (0: all)', [0, 20, 1], 0],
  ['top_p', 'Top-p', [0.05, 1, 0.05], 1], ['min_p', 'Min-p', [0, 1, 0.01], 0],
];

// Temperature first, then top-k, top-p and min-p, as the engine has them.
// logps: of the likeliest of n tokens, falling, in nats. Returns their probabilities and that of
// all others: exact at temperature 1, else at most.
export function reweigh(logps, n, { temperature, top_k, top_p, min_p }) {
  if (temperature === 0) return { ps: logps.map((_, i) => (i ? 0 : 1)), rest: 0 };
  const ps = logps.map((logp) => Math.exp((logp - logps[0]) / temperature));
  const n_rest = n - logps.length;
  const tail = Math.max(0, 1 - logps.reduce((a, b) => a + Math.exp(b), 0));
  const scale = Math.exp(logps[0] / temperature);
  let rest = 0;
  if (n_rest > 0 && !(top_k && top_k <= ps.length)) {
    // No other is likelier than the last here; the most even tail is greatest.
    rest = temperature < 1 ? tail * Math.exp(logps.at(-1) * (1 / temperature - 1)) / scale
      : n_rest * (tail / n_rest) ** (1 / temperature) / scale;
  }
  const in_k = ps.map((p, i) => (top_k && i >= top_k ? 0 : p));
  const wanted = top_p * (in_k.reduce((a, b) => a + b, 0) + rest);
  let before = 0;
  const kept = in_k.map((p) => {
    const stays = (top_p >= 1 || before < wanted) && p >= min_p;
    before += p;
    return stays ? p : 0;
  });
  if (kept.at(-1) === 0) rest = 0;
  else if (top_p < 1) rest = Math.max(0, Math.min(rest, wanted - before));
  const sum = kept.reduce((a, b) => a + b, 0) + rest;
  return { ps: kept.map((p) => p / sum), rest: rest / sum };
}

const percent = (p) => (p > 0 && p < 0.0005 ? '<0.1%' : `${(100 * p).toFixed(1)}%`);

export function next({ models }) {
  const rules = Object.fromEntries(RULES.map(([name, , , value]) => [name, value]));
  let ids = [], place = 0, likely = [];
  const model = dom.select(models.map((m) => m.id), models[0].id, () => read());
  const entry = () => models.find((m) => m.id === model.value);
  const area = make('textarea', { rows: 3, oninput: dom.rested(() => read()) });
  area.value = entry().examples?.[0] ?? 'The ';
  const asChat = make('input', { type: 'checkbox', onchange: () => read() });
  const line = make('div'), bars = make('div'), notice = make('div');
  const back = button('Take back', () => { ids.pop(); look(ids.length - 1); });
  const drawn = button('Draw one', () => draw());
  const sliders = RULES.map(([name, label, range, value]) =>
    dom.slider(label, range, value, (chosen) => { rules[name] = chosen; showBars(); }));

  const read = dom.guarded(notice, async (is_latest) => {
    asChat.disabled = !entry().is_chat;
    const body = entry().is_chat && asChat.checked
      ? { messages: [{ role: 'user', content: area.value }], add_generation_prompt: true }
      : { prompt: area.value };
    const { tokens } = await post('tokenize', { model: model.value, ...body });
    if (!is_latest()) return;
    ids = tokens;
    look(ids.length - 1);
  });

  // Shows what may follow the token at i.
  const look = dom.guarded(notice, async (is_latest, i) => {
    const id = model.value, now = ids;
    place = i;
    back.disabled = drawn.disabled = !ids.length;
    if (!ids.length) throw new Error('Write at least one token to see what may follow it.');
    const found = await nextTokens(id, now.slice(0, i + 1));
    const names = await tokenTexts(id, found.map(([other]) => other));
    const texts = await tokenTexts(id, now);
    if (!is_latest()) return;
    likely = found.map(([other, logp], j) => ({ id: other, logp, text: names[j] }));
    const told = now.map((other, j) => ({ id: other, text: texts[j], is_dim: j > i }));
    const had_focus = line.contains(document.activeElement);
    const shown = strip('The text so far', told, null, look);
    line.replaceChildren(shown);
    shown.select(i, had_focus);
    showBars();
  });

  async function append(id) {
    const had_focus = bars.contains(document.activeElement);
    ids = [...ids.slice(0, place + 1), id];
    await look(ids.length - 1);
    if (had_focus) bars.querySelector('button')?.focus();
  }

  const reweighed = () => reweigh(likely.map((t) => t.logp), entry().vocab_size, rules);

  // One of those that are shown, by their chances.
  function draw() {
    const { ps } = reweighed();
    let left = Math.random() * ps.reduce((a, b) => a + b, 0);
    append(likely[Math.max(0, ps.findIndex((p) => (left -= p) < 0))].id);
  }

  function showBars() {
    if (!likely.length) return;
    const { ps, rest } = reweighed();
    const rows = likely.map(({ id, text, logp }, i) => make('li', {}, make('button', {
      type: 'button', className: ps[i] ? 'bar' : 'bar out', onclick: () => append(id),
      title: `id ${id}, ${logp.toFixed(3)} nats`,
    }, ...dom.bar(blanks(text), ps[i], percent(ps[i]), Math.exp(logp)))));
    const is_exact = rules.temperature === 1 && rules.top_p === 1;
    bars.replaceChildren(make('ol', { className: 'bars' }, ...rows), div('detail',
      `All others: ${is_exact ? '' : 'at most '}${percent(rest)}. `,
      'The thin line is the model’s own probability.'));
  }

  read();
  return div('tool', div('row', field('Model', model),
    field('As a question to a chat model', asChat, { className: 'field check' })),
  field('Text', area), line, notice, div('row', back, drawn),
  div('split', bars, div('sliders', ...sliders)));
}
