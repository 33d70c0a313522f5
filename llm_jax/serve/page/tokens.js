// Tokens: how a vocabulary cuts a text, or a template a conversation.

import { post } from './api.js';
import * as dom from './dom.js';
import { strip } from './strip.js';

const { make, button, div, field } = dom;
const LEVELS = [1, 2, 4, 7, 11]; // bits; each level is one darker
const ROLES = ['system', 'user', 'assistant', 'tool'];

const total = (numbers) => numbers.reduce((a, b) => a + (b ?? 0), 0);

// What the colour of each token says: {level, note, is_dim}.
const learnt = (mask) => (mask ? { level: 3, note: 'carries the loss' }
  : { level: 0, note: 'is only read', is_dim: true });
const surprising = (bits) => (bits === null ? { level: 0, note: 'nothing stands before it' }
  : { level: LEVELS.filter((least) => bits >= least).length, note: `${bits.toFixed(2)} bits` });

async function surprise(model, ids) {
  const { choices } = await post('v1/completions', {
    model, prompt: ids, echo: true, logprobs: 1, max_tokens: 0, return_tokens_as_token_ids: true,
  });
  return choices[0].logprobs.token_logprobs.map((logp) => (logp === null ? null : -logp / Math.LN2));
}

export function tokens({ models, tokenizers }) {
  let messages = [
    { role: 'user', content: 'What is 7 + 5?' }, { role: 'assistant', content: '12' },
  ];
  const names = [...models.map((m) => m.id), ...tokenizers];
  const vocabulary = dom.select(names, names[0], () => ask());
  const what = dom.select([['text', 'Text'], ['messages', 'Conversation']], 'text', () => choose());
  const colours = dom.select([
    ['tokens', 'Each token'], ['loss', 'What fine-tuning learns'], ['surprise', 'Surprise'],
  ], 'tokens', () => ask());
  const prompt = make('input', { type: 'checkbox', onchange: () => ask() });
  const area = make('textarea', { rows: 5, oninput: dom.rested(() => ask()) });
  area.value = 'Hello, how many tokens am I?';
  const textField = field('Text', area);
  const promptField = field('Ask for an answer', prompt, { className: 'field check' });
  const rows = div('messages'), count = div('count'), detail = div('detail');
  const result = make('div'), notice = make('div');

  function messageRow(message) {
    const later = dom.rested(() => ask());
    const edited = make('textarea', {
      rows: 2, 'aria-label': `Text of ${message.role}`,
      oninput: () => { message.content = edited.value; later(); },
    });
    edited.value = message.content ?? '';
    const role = dom.select(ROLES, message.role, (value) => { message.role = value; ask(); });
    role.setAttribute('aria-label', 'Who says it');
    return div('message', role, edited, button('×', () => {
      messages = messages.filter((other) => other !== message);
      choose();
    }, { className: 'quiet', 'aria-label': 'Remove this message' }));
  }

  function choose() {
    const is_text = what.value === 'text';
    textField.hidden = !is_text;
    promptField.hidden = rows.hidden = is_text;
    rows.replaceChildren(...messages.map(messageRow), button('Add a message', () => {
      const role = messages.at(-1)?.role === 'user' ? 'assistant' : 'user';
      messages.push({ role, content: '' });
      choose();
      [...rows.querySelectorAll('textarea')].at(-1).focus();
    }, { className: 'quiet' }));
    ask();
  }

  const ask = dom.guarded(notice, async (is_latest) => {
    const model = vocabulary.value, by = colours.value;
    const text = what.value === 'text' ? area.value : null;
    const body = text === null ? { messages, add_generation_prompt: prompt.checked }
      : { prompt: text, add_special_tokens: false };
    if (by === 'surprise' && tokenizers.includes(model))
      throw new Error(`${model} is a vocabulary without a model: choose a model for surprise.`);
    if (by === 'loss' && text !== null)
      throw new Error(
        'Only answers are learnt in fine-tuning: choose Conversation instead of Text.');
    const reply = await post('tokenize', { model, ...body, return_token_strs: true });
    const bits = by === 'surprise' && reply.count ? await surprise(model, reply.tokens) : null;
    if (!is_latest()) return;
    const told = reply.tokens.map((id, i) => ({
      id, text: reply.token_strs[i], ...(by === 'loss' ? learnt(reply.loss_mask[i]) : {}),
      ...(bits ? surprising(bits[i]) : {}),
    }));
    count.textContent = summary(reply, text, by === 'loss' ? reply.loss_mask : null, bits);
    detail.textContent = 'Point at a token, or walk with the arrow keys.';
    result.replaceChildren(told.length ? strip('Tokens', told, (i) => {
      const said = [`#${i}`, `id ${told[i].id}`, JSON.stringify(told[i].text), told[i].note];
      detail.textContent = said.filter(Boolean).join(' · ');
    }) : dom.empty('Write something above to see its tokens.'));
  });

  function summary({ count: n, max_model_len: most }, text, mask, bits) {
    const said = [`${n} tokens${most ? ` of at most ${most}` : ''}`];
    if (text) {
      const n_bytes = new TextEncoder().encode(text).length;
      said.push(`${n_bytes} bytes`, `${(n_bytes / n).toFixed(2)} bytes a token`);
    }
    if (mask) said.push(`${total(mask)} carry the loss`);
    if (bits?.length > 1)
      said.push(`${(total(bits) / (bits.length - 1)).toFixed(2)} bits a token`);
    return said.join(' · ');
  }

  const element = div('tool', div('row', field('Vocabulary', vocabulary), field('Of', what),
    field('Colour', colours), promptField), textField, rows, notice, count, result, detail);
  element.receive = ({ model, text, messages: said }) => {
    vocabulary.value = model;
    what.value = said ? 'messages' : 'text';
    if (said) messages = said;
    else area.value = text;
    choose();
  };
  choose();
  return element;
}
