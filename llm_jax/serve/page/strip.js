// A line of tokens to walk through: by mouse, or by the arrow keys.

import { make } from './dom.js';

const MOST = 4000;

// Line breaks and blanks that would not be seen otherwise.
export const visible = (text) =>
  text.replaceAll('\n', '↵\n').replaceAll('\t', '⇥\t').replaceAll('\r', '␍');

export const blanks = (text) => visible(text).replaceAll(' ', '␣').trim() || '∅';

// tokens: [{id, text, note, level, is_dim}]; onlook(i) is called for the one
// under the pointer or the focus, onpick(i) for the one clicked.
export function strip(label, tokens, onlook, onpick) {
  const element = make('div', {
    className: 'strip', role: 'listbox', 'aria-label': label, tabIndex: -1,
  });
  const shown = tokens.slice(0, MOST).map((token, i) => {
    const name = [JSON.stringify(token.text), `id ${token.id}`, token.note];
    const level = token.level === undefined ? `c${i % 5}` : `s${token.level}`;
    return make('span', {
      role: 'option', tabIndex: i ? -1 : 0, 'aria-selected': 'false',
      className: `token ${level}${token.is_dim ? ' dim' : ''}`,
      'aria-label': name.filter(Boolean).join(', '),
      title: name.slice(1).filter(Boolean).join(' · '),
      onfocus: () => look(i), onmouseenter: () => onlook?.(i), onclick: () => onpick?.(i),
    }, visible(token.text) || '∅');
  });
  let at = 0;
  function look(i) {
    shown[at].tabIndex = -1;
    shown[i].tabIndex = 0;
    at = i;
    onlook?.(i);
  }
  element.select = (i, with_focus) => {
    shown.forEach((span, j) => span.setAttribute('aria-selected', String(i === j)));
    if (with_focus) shown[i]?.focus();
  };
  element.addEventListener('keydown', (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const last = shown.length - 1;
    let to = at + (steps[event.key] ?? 0);
    if (event.key === 'Home') to = 0;
    else if (event.key === 'End') to = last;
    else if (event.key === 'Enter' || event.key === ' ') onpick?.(at);
    else if (!steps[event.key]) return;
    event.preventDefault();
    shown[Math.max(0, Math.min(last, to))]?.focus();
  });
  element.append(...shown);
  if (tokens.length > MOST) element.append(` … the first ${MOST} of ${tokens.length} tokens`);
  return element;
}
