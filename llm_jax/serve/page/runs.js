// Runs: curves of what trains, read from its metrics while it does.

import { get } from './api.js';
import * as dom from './dom.js';

const { make, div, field, svg } = dom;
const HEIGHT = 320, LEFT = 56, BOTTOM = 28, EVERY_MS = 3000;

// Means over windows, so that a long run has no more points than pixels.
function thin(points, most = 400) {
  const width = Math.ceil(points.length / most) || 1;
  const result = [];
  for (let i = 0; i < points.length; i += width) {
    const some = points.slice(i, i + width);
    const mean = (j) => some.reduce((sum, p) => sum + p[j], 0) / some.length;
    result.push([mean(0), mean(1)]);
  }
  return result;
}

function smooth(points, weight) {
  let mean = 0, share = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    share = weight * share + 1 - weight;
    return [x, mean / share];
  });
}

const short = (x) => (Math.abs(x) >= 1e5 || (x && Math.abs(x) < 1e-3)
  ? x.toExponential(1) : String(Number(x.toPrecision(4))));

function chart(lines, metric, width) {
  const all = lines.flatMap(([, points]) => points);
  const [[x0, x1], [y0, y1]] = [0, 1].map((j) => all.map((point) => point[j]))
    .map((numbers) => [Math.min(...numbers), Math.max(...numbers)]);
  const px = (x) => LEFT + (width - LEFT - 8) * (x - x0) / (x1 - x0 || 1);
  const py = (y) => 8 + (HEIGHT - BOTTOM - 8) * (1 - (y - y0) / (y1 - y0 || 1));
  const marks = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => {
    const x = x0 + share * (x1 - x0), y = y0 + share * (y1 - y0);
    return [svg('line', { x1: LEFT, x2: width - 8, y1: py(y), y2: py(y), class: 'rule' }),
      svg('text', { x: LEFT - 6, y: py(y) + 4, 'text-anchor': 'end' }, short(y)),
      svg('text', { x: px(x), y: HEIGHT - 6, 'text-anchor': share ? 'end' : 'start' },
        short(Math.round(x))),
    ];
  });
  const paths = lines.map(([name, points], i) => svg('polyline', {
    class: `curve k${i % 6}`,
    points: points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(' '),
  }, svg('title', {}, name)));
  return svg('svg', {
    viewBox: `0 0 ${width} ${HEIGHT}`, class: 'chart', role: 'img',
    'aria-label': `${metric} by step; the last values are in the table below`,
  }, ...marks, ...paths);
}

const key = (i) => svg('svg', { width: 28, height: 8, 'aria-hidden': 'true' },
  svg('line', { x1: 0, x2: 28, y1: 4, y2: 4, class: `curve k${i % 6}` }));

export function runs({ runs: is_on }) {
  if (!is_on)
    return div('tool', dom.empty('Curves of what trains, live. Start the server with --runs ' +
      'runs to see every run under that folder.'));
  const known = new Map(); // name: {box, rows, offset}
  let metric = 'loss', weight = 0;
  const chooser = make('fieldset', { className: 'row' }, make('legend', {}, 'Runs'));
  const metricSelect = dom.select(['loss'], 'loss', (name) => { metric = name; show(); });
  const smoothing = dom.slider('Smoothing', [0, 0.98, 0.02], 0, (value) => { weight = value; show(); });
  const result = make('div'), notice = make('div');
  const chosen = () => [...known].filter(([, run]) => run.box.checked);

  function showMetrics() {
    const recent = chosen().flatMap(([, { rows }]) => rows.slice(-50));
    const names = [...new Set(recent.flatMap(Object.keys))].filter((name) => name !== 'step').sort();
    if (names.length && !names.includes(metric)) [metric] = names;
    const had = [...metricSelect.options].map((option) => option.value);
    if (had.join() === names.join()) return;
    metricSelect.replaceChildren(...names.map((name) =>
      make('option', { value: name, selected: name === metric }, name)));
  }

  function show() {
    showMetrics();
    const lines = chosen().map(([name, { rows }]) =>
      [name, rows.filter((row) => Number.isFinite(row[metric]))
        .map((row) => [row.step, row[metric]])]).filter(([, points]) => points.length);
    if (!lines.length)
      return result.replaceChildren(dom.empty(known.size ? 'Choose a run that has this metric.'
        : 'No run here has a metrics.jsonl yet; this looks again every 3 s.'));
    const curves = lines.map(([name, points]) => [name, smooth(thin(points), weight)]);
    const rows = lines.map(([name, points], i) => [
      make('span', {}, key(i), ` ${name}`), ...points.at(-1).map(short)]);
    return result.replaceChildren(chart(curves, metric, result.clientWidth || 720),
      dom.table('Last values', ['Run', 'Step', metric], rows));
  }

  // Asks for the rows that came since; returns whether there are any.
  async function grow([name, run]) {
    const path = name.split('/').map(encodeURIComponent).join('/');
    const at = run.offset;
    const reply = await get(`runs/${path}/metrics?offset=${at}`);
    if (run.offset !== at) return false;
    run.offset = reply.offset;
    run.rows.push(...reply.rows);
    return reply.rows.length > 0;
  }

  const follow = dom.guarded(notice, async (_, only_if_grown) => {
    const names = await get('runs');
    for (const name of names.filter((other) => !known.has(other))) {
      const box = make('input', {
        type: 'checkbox', checked: known.size < 3, onchange: () => follow(false),
      });
      known.set(name, { box, rows: [], offset: 0 });
      chooser.append(field(name, box, { className: 'field check' }));
    }
    const grown = await Promise.all(chosen().map(grow));
    if (grown.some(Boolean) || !only_if_grown) show();
  });

  const element = div('tool', chooser, div('row', field('Metric', metricSelect), smoothing),
    notice, result);
  follow(false);
  setInterval(() => {
    if (!document.hidden && element.offsetParent) follow(true);
  }, EVERY_MS);
  return element;
}
