// Parts of answers as elements, and as messages in OpenAI's form.

import { div, make } from './dom.js';

const asText = (value) => (typeof value === 'string' ? value : JSON.stringify(value, null, 1));

const fold = (summary, ...children) =>
  make('details', { className: 'fold' }, make('summary', {}, summary), ...children);

function toolElement({ call, result, is_error }) {
  const children = [make('pre', {}, asText(call.arguments))];
  const label = is_error ? 'error' : 'result';
  if (result !== undefined) children.push(div('detail', label), make('pre', {}, asText(result)));
  return fold(`Tool ${call.name}, ${result === undefined ? 'not run here' : label}`, ...children);
}

// Folds what stands between <think> and </think>.
function textElements(text) {
  const result = [];
  let is_thought = false;
  const pieces = text.split(/(<\/?think>)/);
  pieces.forEach((piece, i) => {
    if (piece === '<think>') is_thought = true;
    else if (piece === '</think>') is_thought = false;
    else if (piece.trim() && is_thought) {
      const n = piece.trim().split('\n').length;
      const size = n === 1 ? '1 line' : `${n} lines`;
      result.push(fold(i === pieces.length - 1 ? 'Thinking…' : `Thought, ${size}`,
        make('pre', {}, piece.trim())));
    } else if (piece.trim()) result.push(div('text', piece.trim()));
  });
  return result;
}

// Shows an answer again without closing what the reader has unfolded.
// is_plain: a continuation of text, shown letter by letter as it is.
export function showParts(place, parts, is_plain) {
  const was_open = [...place.querySelectorAll('details')].map((e) => e.open);
  const at = [...place.querySelectorAll('summary')].indexOf(document.activeElement);
  place.replaceChildren(...parts.flatMap((part) => {
    if (part.call) return [toolElement(part)];
    return is_plain ? [make('span', {}, part.text)] : textElements(part.text);
  }));
  place.querySelectorAll('details').forEach((e, i) => { e.open = was_open[i] ?? false; });
  place.querySelectorAll('summary')[at]?.focus();
}

export const plainText = (parts) => parts.map((part) => part.text ?? '').join('');

// An answer that called tools is several messages.
function answerMessages(parts, turn) {
  const result = [{ role: 'assistant', content: '' }];
  parts.forEach(({ text, call, result: said }, i) => {
    if (result.at(-1).role === 'tool') result.push({ role: 'assistant', content: '' });
    const message = result.at(-1);
    message.content += text ?? '';
    if (!call) return;
    const id = `call_${turn}_${i}`;
    const made = { name: call.name, arguments: asText(call.arguments) };
    message.tool_calls = [...message.tool_calls ?? [], { id, type: 'function', function: made }];
    if (said !== undefined) result.push({ role: 'tool', tool_call_id: id, content: asText(said) });
  });
  return result;
}

// turns: [{text, parts}], the last one maybe without an answer.
export function toMessages(turns, system) {
  const result = system ? [{ role: 'system', content: system }] : [];
  turns.forEach(({ text, parts }, i) => {
    if (text) result.push({ role: 'user', content: text });
    if (parts) result.push(...answerMessages(parts, i));
  });
  return result;
}

export function facts({ model, seed, usage, seconds, first_s, finish, is_stopped }) {
  const n = usage?.completion_tokens;
  const rate = (n - 1) / (seconds - first_s);
  return [model, `seed ${seed}`, n && `${n} tokens`, rate > 0 && `${rate.toFixed(0)} tokens/s`,
    first_s && `first after ${first_s.toFixed(2)} s`,
    finish === 'length' && 'cut at the limit of tokens', is_stopped && 'stopped',
  ].filter(Boolean).join(' · ');
}
