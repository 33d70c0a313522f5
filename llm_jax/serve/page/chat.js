// Chat: conversations with one model at a time, kept in this browser.

import { answer } from './api.js';
import * as dom from './dom.js';
import { facts, plainText, showParts, toMessages } from './messages.js';

const { make, button, div, field } = dom;
const quiet = { className: 'quiet' };
const RANGES = [
  ['temperature', 'Temperature', { min: 0, max: 2, step: 0.05 }],
  ['top_p', 'Top-p', { min: 0.05, max: 1, step: 0.05 }], ['top_k', 'Top-k', { min: 0, step: 1 }],
  ['min_p', 'Min-p', { min: 0, max: 1, step: 0.01 }],
  ['max_tokens', 'Most tokens', { min: 1, step: 1 }], ['seed', 'Seed', { min: 0, step: 1 }],
];

// Number fields of sampling that stay; used by several tabs.
export function settingFields(settings, onchange) {
  return div('numbers', ...RANGES.map(([name, label, attributes]) => {
    const input = make('input', {
      type: 'number', value: settings[name] ?? '', ...attributes,
      placeholder: name === 'seed' ? 'random' : 'default', oninput: () => {
        settings[name] = input.validity.valid ? input.value : '';
        onchange();
      },
    });
    return field(label, input);
  }));
}

// What a model with so many turns sees of them.
const seen = (turns, n) => (n > 0 ? turns.slice(-n) : turns);
const count = (n) => (n === 1 ? 'one turn' : `${n} turns`);

export function chat({ models, open }) {
  const settings = dom.kept('settings', { temperature: 0.7 });
  let conversations = dom.kept('conversations', []);
  let current = conversations.find((c) => c.id === dom.kept('current', ''));
  let stopping = null; // while a turn is answered
  const list = make('ul', { className: 'conversations' }), log = div('log'), notice = make('div');
  const input = make('textarea', { rows: 3, id: 'message' });
  const sendButton = button('Send', () => send(), { className: 'primary' });
  const stopButton = button('Stop', () => stopping?.abort());
  const modelSelect = dom.select(models.map((m) => m.id), '', (id) => change({ model: id }));
  const system = make('textarea', {
    rows: 2, placeholder: 'none', oninput: () => { current.system = system.value; save(); },
  });
  const systemField = field('System message', system);
  const model = () => models.find((m) => m.id === current.model) ?? models[0];
  const nSeen = () => (model().is_chat ? model().max_turns : 0);

  function save() {
    const used = conversations.filter((c) => c.turns.length);
    const is_kept = dom.keep('settings', settings) && dom.keep('current', current.id) &&
      dom.keep('conversations', used);
    if (!is_kept)
      dom.problem(notice, new Error('The browser has no room left: this conversation will not ' +
        'be kept. Export and delete old ones.'));
  }

  function change(what) {
    Object.assign(current, what);
    save();
    show();
  }

  function start() {
    const likely = models.findLast((m) => m.is_chat) ?? models[0];
    current = {
      id: String(Date.now()), model: current?.model ?? likely.id, system: '', turns: [],
    };
    conversations = [current, ...conversations.filter((c) => c.turns.length)];
  }

  function choose(conversation) {
    stopping?.abort();
    if (conversation) current = conversation;
    else start();
    change({});
    input.focus();
  }

  function remove(conversation, title) {
    if (!confirm(`Delete the conversation “${title}”?`)) return;
    conversations = conversations.filter((c) => c !== conversation);
    choose(current === conversation ? null : current);
  }

  function conversationElement(c) {
    const title = c.turns[0].text.trim().slice(0, 60) || 'Continuation';
    const opener = button(title, () => choose(c), { className: 'opener' });
    if (c === current) opener.setAttribute('aria-current', 'true');
    const label = `Delete “${title}”`;
    return make('li', {}, opener,
      button('×', () => remove(c, title), { ...quiet, 'aria-label': label, title: label }));
  }

  function edit(turn, place) {
    const area = make('textarea', { rows: 3, 'aria-label': 'Edited message' });
    area.value = turn.text;
    const again = () => { current.turns.splice(current.turns.indexOf(turn)); send(area.value); };
    dom.sends(area, again);
    place.replaceChildren(area, div('actions',
      button('Send again', again, { className: 'primary' }), button('Cancel', show)));
    area.focus();
  }

  function turnElement(turn, i) {
    const user = div('user', div('text', turn.text));
    const answered = div('parts'), small = div('facts'), actions = div('actions');
    if (!stopping) user.append(button('Edit', () => edit(turn, user), quiet));
    if (!stopping && i === current.turns.length - 1)
      actions.append(button('Again', () => {
        turn.n_again = (turn.n_again ?? 0) + 1;
        respond(turn);
      }, { ...quiet, title: 'Another answer to this message' }));
    turn.show = () => {
      showParts(answered, turn.parts ?? [], turn.is_plain);
      if (turn.is_waiting && !turn.parts) answered.append(div('waiting', 'Waiting…'));
      if (turn.error) answered.append(make('p', { className: 'problem' }, turn.error));
      small.textContent = [turn.made && facts(turn.made), turn.dropped].filter(Boolean).join(' — ');
    };
    turn.show();
    return make('article', {
      className: turn.is_plain ? 'turn plain' : 'turn', 'aria-label': `Turn ${i + 1}`,
    }, user, answered, small, actions);
  }

  function examples() {
    const { id, is_chat, examples: texts } = model();
    const does = is_chat ? `Say something to ${id}, and it answers.`
      : `${id} was not taught to converse: it continues what you write.`;
    return div('empty', make('p', {}, texts?.length ? `${does} Try one of these:` : does),
      div('examples', ...(texts ?? []).map((text) =>
        button(text, () => send(text), { className: 'example' }))));
  }

  function show() {
    const { id, is_chat } = model(), { turns } = current;
    modelSelect.value = id;
    system.value = current.system;
    systemField.hidden = !is_chat;
    input.placeholder = is_chat ? `Message to ${id}` : 'Text to continue; empty goes on';
    sendButton.textContent = is_chat ? 'Send' : 'Continue';
    sendButton.hidden = Boolean(stopping);
    stopButton.hidden = !stopping;
    list.replaceChildren(...conversations.filter((c) => c.turns.length).map(conversationElement));
    const elements = turns.map(turnElement);
    const n_unseen = turns.length - seen(turns, nSeen()).length;
    if (n_unseen)
      elements.splice(n_unseen, 0, make('p', { className: 'notice' },
        `${id} sees ${count(nSeen())} at a time: what stands above is not shown to it.`));
    log.replaceChildren(...(turns.length ? elements : [examples()]));
  }

  async function send(text = input.value) {
    const is_nothing = model().is_chat ? !text.trim() : !text && !current.turns.length;
    if (stopping || is_nothing) return;
    input.value = '';
    current.turns.push({ text });
    await respond(current.turns.at(-1));
  }

  // Where the context is full, whole turns are dropped, the oldest first.
  async function ask(turn, signal) {
    const chosen = model(), rules = chosen.is_chat ? current.system : '';
    // The seed is always known, so that an answer can be had again.
    const seed = settings.seed ? Number(settings.seed) + (turn.n_again ?? 0) : dom.seed();
    let turns = seen(current.turns.slice(0, current.turns.indexOf(turn) + 1), nSeen());
    for (let n_dropped = 1; ; n_dropped++) {
      const messages = toMessages(turns, rules);
      try {
        return await answer({ model: chosen, messages, settings, seed, signal }, (made) => {
          Object.assign(turn, { made: { ...made, parts: null }, parts: made.parts });
          const is_at_end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
          turn.show();
          if (is_at_end) log.scrollTop = log.scrollHeight;
        });
      } catch (error) {
        if (error.code !== 'context_length_exceeded' || turns.length < 2) throw error;
        turns = turns.slice(1);
        turn.dropped = `the context is full: the oldest ${count(n_dropped)} before this one ` +
          `${n_dropped === 1 ? 'was' : 'were'} not shown to ${chosen.id}`;
      }
    }
  }

  async function respond(turn) {
    stopping = new AbortController();
    Object.assign(turn, { is_waiting: true, is_plain: !model().is_chat });
    for (const name of ['parts', 'made', 'error', 'dropped']) delete turn[name];
    const had_focus = document.activeElement;
    show();
    log.scrollTop = log.scrollHeight;
    if (had_focus !== input) stopButton.focus();
    try {
      await ask(turn, stopping.signal);
      dom.say(`${turn.made.model} answered: ${plainText(turn.parts)}`);
    } catch (error) {
      if (error.name !== 'AbortError') turn.error = error.message;
      else if (turn.made) turn.made.is_stopped = true;
      dom.say(turn.error ?? 'Stopped');
    }
    const was_stop = document.activeElement === stopButton;
    stopping = null;
    delete turn.is_waiting;
    change({});
    log.scrollTop = log.scrollHeight;
    if (was_stop) input.focus();
  }

  function exportAll() {
    const chats = conversations.filter((c) =>
      c.turns.length && c.turns.every((t) => !t.is_plain && t.parts));
    const none = 'There is no answered conversation with a chat model to export yet.';
    dom.problem(notice, chats.length ? null : new Error(none));
    if (chats.length)
      dom.download('conversations.jsonl', chats.map((c) =>
        `${JSON.stringify({ messages: toMessages(c.turns, c.system) })}\n`).join(''));
  }

  function toTokens() {
    const messages = toMessages(seen(current.turns, nSeen()), current.system);
    open('tokens', model().is_chat ? { model: model().id, messages }
      : { model: model().id, text: messages.map((m) => m.content).join('') });
  }

  if (!current) start();
  dom.sends(input, () => send());
  show();
  const wide = matchMedia('(min-width: 900px)').matches;
  const aside = make('aside', { 'aria-label': 'Conversations and settings' },
    div('row new', field('Model', modelSelect),
      button('New', () => choose(null), { title: 'A new conversation' })),
    make('details', { open: wide }, make('summary', {}, 'Settings'), systemField,
      settingFields(settings, save)),
    make('details', { open: wide }, make('summary', {}, 'Conversations'), list,
      div('row', button('Export as JSONL', exportAll, quiet),
        button('Show as tokens', toTokens, quiet))));
  return div('chat', aside, div('talk', log, notice, div('compose',
    make('label', { className: 'hidden', htmlFor: 'message' }, 'Message'),
    input, sendButton, stopButton)));
}
