// Inside: attention, neighbours of embeddings, parameters by part.

import { get, post, tokenTexts } from './api.js';
import * as dom from './dom.js';
import { blanks, strip } from './strip.js';

const { make, div, field, svg } = dom;
const CELL = 14; // pixels
const MOST = 96; // tokens of a grid

const percent = (w) => `${(100 * w).toFixed(1)}%`;
const barRow = (...what) => make('li', { className: 'bar' }, ...dom.bar(...what));
const section = (title, ...children) => make('section', {}, make('h2', {}, title), ...children);
const numbers = (n) => Array.from({ length: n }, (_, i) => make('option', { value: i }, i));

// weights: of each token, those on it and on all before it.
function grid(ids, texts, weights) {
  const looks = make('div'), size = CELL * ids.length;
  const name = (i) => JSON.stringify(texts[i]);
  const rows = strip('Token that reads', ids.map((id, i) => ({ id, text: texts[i] })), null, from);
  function from(i) {
    const told = ids.slice(0, i + 1).map((id, j) => ({
      id, text: texts[j], note: percent(weights[i][j]),
      level: Math.min(5, Math.ceil(weights[i][j] * 10)),
    }));
    looks.replaceChildren(div('detail', `${name(i)} reads from:`),
      strip('What this token reads from', told));
    rows.select(i);
  }
  const cells = weights.flatMap((row, i) => row.slice(0, i + 1).map((w, j) => svg('rect', {
    x: j * CELL, y: i * CELL, width: CELL - 1, height: CELL - 1, class: 'cell',
    'fill-opacity': Math.max(0.04, w).toFixed(3), onclick: () => from(i),
  }, svg('title', {}, `${name(i)} to ${name(j)}: ${percent(w)}`))));
  from(ids.length - 1);
  return [div('detail', 'Choose a token, or a row of the grid.'), rows, looks,
    make('div', { className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Grid' },
      svg('svg', {
        width: size, height: size, role: 'img',
        'aria-label': 'Attention, a row a token; the same numbers stand at the tokens above',
      }, ...cells))];
}

function attention(model) {
  const area = make('textarea', { rows: 2, oninput: dom.rested(() => ask()) });
  area.value = model().examples?.[0] ?? 'The cat sat on the mat.';
  const [layer, head] = [0, 0].map(() => make('select', { onchange: () => ask() }));
  const result = make('div'), notice = make('div');
  const ask = dom.guarded(notice, async (is_latest) => {
    const { id } = model();
    const { tokens } = await post('tokenize', { model: id, prompt: area.value });
    if (!tokens.length) throw new Error('Write something for the model to read.');
    if (tokens.length > MOST)
      throw new Error(`The text has ${tokens.length} tokens; the grid shows at most ${MOST}.`);
    const { weights } = await post('inside/attention', {
      model: id, tokens, layer: Number(layer.value), head: Number(head.value),
    });
    const texts = await tokenTexts(id, tokens);
    if (is_latest()) result.replaceChildren(...grid(tokens, texts, weights));
  });
  return [section('Attention', field('Text', area),
    div('row', field('Layer', layer), field('Head', head)), notice, result), () => {
    layer.replaceChildren(...numbers(model().n_layers));
    head.replaceChildren(...numbers(model().n_heads));
    ask();
  }];
}

// 'a - b + c' as {plus: [a, c], minus: [b]}. Blanks belong to tokens: a sign stands between two
// blanks, and a second one after it is the token's.
export function analogy(text) {
  const words = { plus: [], minus: [] };
  text.split(/ ([+-]) /).forEach((piece, i, pieces) => {
    if (i % 2 === 0 && piece) words[pieces[i - 1] === '-' ? 'minus' : 'plus'].push(piece);
  });
  return words;
}

function neighbours(model) {
  const input = make('input', { placeholder: 'a - b + c', value: ' one' });
  const result = make('div'), notice = make('div');
  const ask = dom.guarded(notice, async (is_latest) => {
    const found = await post('inside/neighbours', {
      model: model().id, ...analogy(input.value), n: 12,
    });
    if (!is_latest()) return;
    result.replaceChildren(make('ol', { className: 'bars' }, ...found.map(({ token, cosine }) =>
      barRow(blanks(token), cosine, cosine.toFixed(3)))));
  });
  const onsubmit = (event) => {
    event.preventDefault();
    ask();
  };
  return [section('Neighbours of embeddings', make('form', { className: 'row', onsubmit },
    field('A token, or a - b + c; leading blanks count', input),
    make('button', { className: 'primary' }, 'Find')), notice, result), ask];
}

function parameters(model) {
  const result = make('div'), notice = make('div');
  const whole = (n) => n.toLocaleString('en');
  const ask = dom.guarded(notice, async (is_latest) => {
    const parts = await get(`inside/parameters?model=${encodeURIComponent(model().id)}`);
    const sum = parts.reduce((a, { count }) => a + count, 0);
    if (!is_latest()) return;
    result.replaceChildren(div('count', `${whole(sum)} in all`),
      make('ul', { className: 'bars' }, ...parts.map(({ part, count }) =>
        barRow(part, count / sum, whole(count)))));
  });
  return [section('Parameters', notice, result), ask];
}

export function inside({ models }) {
  const ids = models.map((m) => m.id);
  const refresh = () => sections.forEach(([, ask]) => ask());
  const chosen = dom.select(ids, ids[0], refresh);
  const model = () => models.find((m) => m.id === chosen.value);
  const sections = [attention, neighbours, parameters].map((part) => part(model));
  refresh();
  return div('tool', div('row', field('Model', chosen)), ...sections.map(([element]) => element));
}
