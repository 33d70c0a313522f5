// Elements, what is kept in the browser, and what is said aloud.
// Text of models and users only ever becomes text nodes.

const PROPERTIES = new Set(['className', 'value', 'checked', 'disabled', 'open', 'hidden',
  'selected', 'htmlFor', 'type', 'title', 'tabIndex', 'placeholder']);
const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name) && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const make = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
export const div = (className, ...children) => make('div', { className }, ...children);
export const button = (text, onclick, attributes = {}) =>
  make('button', { type: 'button', onclick, ...attributes }, text);

let n_fields = 0;

// A labelled control: an input, textarea or select.
export function field(label, control, attributes = {}) {
  control.id ||= `field${++n_fields}`;
  return make('div', { className: 'field', ...attributes },
    make('label', { htmlFor: control.id }, label), control);
}

// options: [value, text] pairs or plain texts.
export const select = (options, value, onchange) =>
  make('select', { onchange: (event) => onchange(event.target.value) },
    ...options.map((option) => [option].flat()).map(([key, text]) =>
      make('option', { value: key, selected: key === value }, text ?? key)));

// A slider that shows its value.
export function slider(label, range, value, oninput) {
  const shown = make('output', {}, String(value));
  const input = make('input', {
    type: 'range', min: range[0], max: range[1], step: range[2], oninput: () => {
      shown.textContent = input.value;
      oninput(Number(input.value));
    },
  });
  input.value = value;
  const element = field(label, input, { className: 'field slider' });
  element.append(shown);
  return element;
}

// rows: texts or elements, the first of each the head of its row.
export const table = (caption, heads, rows) => make('table', {}, make('caption', {}, caption),
  make('thead', {}, make('tr', {}, ...heads.map((head) => make('th', { scope: 'col' }, head)))),
  make('tbody', {}, ...rows.map(([head, ...cells]) => make('tr', {},
    make('th', { scope: 'row' }, head), ...cells.map((cell) => make('td', {}, cell))))));

const percents = (share) => `${(100 * Math.max(0, share)).toFixed(2)}%`;

// What a bar of a list is made of; thin: a second share, drawn as a line.
export function bar(name, share, number, thin = 0) {
  const [fill, line] = ['fill', 'thin'].map((className) => make('span', { className }));
  fill.style.width = percents(share);
  line.style.width = percents(thin);
  return [make('code', {}, name), make('span', { className: 'track' }, fill, line),
    make('span', { className: 'number' }, number)];
}

export const kept = (name, otherwise) =>
  JSON.parse(localStorage.getItem(`llm_jax.${name}`)) ?? otherwise;

// Returns false where the browser has no room left, so that it can be said.
export const keep = (name, value) => {
  try {
    localStorage.setItem(`llm_jax.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
};

// Once an answer, not once a token: a screen reader reads it whole.
export const say = (text) => { document.getElementById('said').textContent = text; };

// Errors in the server's own words; null takes the notice away.
export function problem(place, error) {
  place.replaceChildren();
  if (!error) return;
  place.append(make('p', { className: 'problem', role: 'alert' }, error.message || String(error)));
}
export const empty = (...children) => make('p', { className: 'empty' }, ...children);

// Once the typing rests.
export function rested(act) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, 250);
  };
}

// act(is_latest, ...): the place says why it failed, unless a later call has overtaken it.
export function guarded(place, act) {
  let n_calls = 0;
  return async (...given) => {
    const mine = ++n_calls;
    const is_latest = () => mine === n_calls;
    problem(place, null);
    try {
      await act(is_latest, ...given);
    } catch (error) {
      if (is_latest()) problem(place, error);
    }
  };
}
export const seed = () => Math.floor(Math.random() * 2 ** 31);

// Enter sends, Shift+Enter is a new line; not while an input method composes.
export const sends = (textarea, send) => textarea.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});

export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text]));
  make('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
