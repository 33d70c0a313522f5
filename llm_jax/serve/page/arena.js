// Arena: two answers without names, a vote, and then the names.

import { get, post, stream } from './api.js';
import * as dom from './dom.js';
import { showParts } from './messages.js';

const { make, button, div, field } = dom;
const VOTES = { a: 'A is better', b: 'B is better', tie: 'Tie', both_bad: 'Both are bad' };
const HEADS = ['Model', 'Rating', 'Low', 'High', 'Battles'];

function side(name) {
  const title = make('h2', {}, name.toUpperCase()), parts = div('parts');
  const element = make('section', { 'aria-label': `Answer ${name}` }, title, parts);
  return { title, parts, element, text: '' };
}

export function arena({ models, arena: is_on }) {
  if (!is_on)
    return div('tool', dom.empty('The arena compares two unnamed models and keeps your votes. ' +
      'Start the server with two chat models and --votes votes.jsonl to open it.'));
  let battle = null;
  const area = make('textarea', { rows: 2 });
  const start = button('Start a battle', () => fight(), { className: 'primary' });
  const notice = make('div'), ratings = make('div');
  const sides = { a: side('a'), b: side('b') };
  const voteButtons = Object.entries(VOTES).map(([vote, text]) =>
    button(text, () => cast(vote), { disabled: true }));
  const columns = div('columns', sides.a.element, sides.b.element);
  const votes = make('div', { className: 'row', role: 'group', 'aria-label': 'Your vote' },
    ...voteButtons);
  columns.hidden = votes.hidden = true;
  const allow = (can) => voteButtons.forEach((b) => { b.disabled = !can; });

  const fight = dom.guarded(notice, async () => {
    if (start.disabled) return;
    if (!area.value.trim()) throw new Error('Write something to ask both.');
    start.disabled = true;
    allow(false);
    columns.hidden = votes.hidden = false;
    for (const [name, one] of Object.entries(sides)) {
      one.text = '';
      one.title.textContent = name.toUpperCase();
      one.parts.replaceChildren();
    }
    try {
      const messages = [{ role: 'user', content: area.value }];
      for await (const event of stream('arena/battles', { messages })) {
        battle = event.battle ?? battle;
        if (!event.text) continue;
        const one = sides[event.side];
        one.text += event.text;
        showParts(one.parts, [{ text: one.text }]);
      }
      allow(true);
      dom.say(`A: ${sides.a.text}. B: ${sides.b.text}. Vote now.`);
      voteButtons[0].focus();
    } finally {
      start.disabled = false;
    }
  });

  const cast = dom.guarded(notice, async (_, vote) => {
    allow(false);
    const names = await post('arena/votes', { battle, vote });
    for (const [name, one] of Object.entries(sides))
      one.title.textContent = `${name.toUpperCase()}: ${names[name]}`;
    dom.say(`Thank you. A was ${names.a}, B was ${names.b}.`);
    start.focus();
    await showRatings();
  });

  async function showRatings() {
    const { ratings: found } = await get('arena/ratings');
    const rows = found.map(({ model, rating, low, high, battles }) =>
      [model, ...[rating, low, high, battles].map((n) => (n == null ? '–' : Math.round(n)))]);
    ratings.replaceChildren(rows.length
      ? dom.table('Bradley-Terry ratings with their 95% intervals', HEADS, rows)
      : dom.empty('No votes yet: ratings appear with the first ones.'));
  }

  const tries = models.find((m) => m.is_chat)?.examples ?? [];
  dom.sends(area, fight);
  dom.guarded(notice, showRatings)();
  return div('tool', field('Ask both', area), div('examples', ...tries.map((text) =>
    button(text, () => { area.value = text; fight(); }, { className: 'example' }))),
  div('row', start), notice, columns, votes, ratings);
}
