// The page: tabs, each made when it is first opened.

import { get } from './api.js';
import { arena } from './arena.js';
import { chat } from './chat.js';
import * as dom from './dom.js';
import { inside } from './inside.js';
import { next } from './next.js';
import { runs } from './runs.js';
import { side } from './side.js';
import { tokens } from './tokens.js';

const { make } = dom;
const TABS = [
  ['chat', 'Chat', chat], ['tokens', 'Tokens', tokens], ['next', 'Next token', next],
  ['side', 'Side by side', side], ['arena', 'Arena', arena], ['inside', 'Inside', inside],
  ['runs', 'Runs', runs],
];
const main = document.querySelector('main'), list = document.getElementById('tabs');
const made = new Map();
let settings;

// Shows a tab; what is given goes to its receive().
function open(name, given) {
  for (const [other, , build] of TABS) {
    const is_open = other === name;
    const tab = document.getElementById(`tab-${other}`);
    tab.setAttribute('aria-selected', String(is_open));
    tab.tabIndex = is_open ? 0 : -1;
    const panel = document.getElementById(`panel-${other}`);
    panel.hidden = !is_open;
    if (!is_open) continue;
    if (!made.has(name)) {
      made.set(name, build({ ...settings, open }));
      panel.append(made.get(name));
    }
    if (given) made.get(name).receive(given);
    tab.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }
  history.replaceState(null, '', `#${name}`);
}

const openNamed = () =>
  open(TABS.map(([name]) => name).find((name) => location.hash === `#${name}`) ?? 'chat');

function steer(event) {
  const at = TABS.findIndex(([name]) => event.target.id === `tab-${name}`);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const [name] = TABS[(to + TABS.length) % TABS.length];
  open(name);
  document.getElementById(`tab-${name}`).focus();
}

function askKey() {
  const key = prompt('API key of this server (kept in this browser):', dom.kept('key', ''));
  if (key === null) return;
  dom.keep('key', key);
  location.reload();
}

async function start() {
  document.getElementById('key').addEventListener('click', askKey);
  settings = await get('page/settings');
  for (const [name, text] of TABS) {
    const tab = `tab-${name}`, panel = `panel-${name}`;
    list.append(dom.button(text, () => open(name),
      { role: 'tab', id: tab, 'aria-controls': panel }));
    main.append(make('div', { role: 'tabpanel', id: panel, 'aria-labelledby': tab, hidden: true }));
  }
  list.addEventListener('keydown', steer);
  window.addEventListener('hashchange', openNamed);
  openNamed();
}

start().catch((error) => dom.problem(main, error));
