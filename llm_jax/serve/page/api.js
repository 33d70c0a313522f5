// Requests to the server that this page came from, and to no other.

import { kept } from './dom.js';

class ApiError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

async function send(path, body, signal) {
  const headers = {}, key = kept('key', '');
  if (key) headers.Authorization = `Bearer ${key}`;
  const options = { headers, signal };
  if (body) {
    headers['Content-Type'] = 'application/json';
    Object.assign(options, { method: 'POST', body: JSON.stringify(body) });
  }
  const response = await fetch(path, options).catch((error) => {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server does not answer. Is it still running?');
  });
  if (response.ok) return response;
  const told = (await response.json().catch(() => ({}))).error ?? {};
  throw new ApiError(told.message ?? `The server answered ${response.status}.`, told.code);
}

export const get = async (path) => (await send(path)).json();
export const post = async (path, body, signal) => (await send(path, body, signal)).json();

// The events of a streamed answer. The network may split it within a character or a line.
export async function* stream(path, body, signal) {
  const response = await send(path, body, signal);
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice(5).trim();
      if (data === '[DONE]') return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message, event.error.code);
      yield event;
    }
    if (done) throw new ApiError('The answer broke off before its end.');
  }
}

// An empty field is left to the server.
const sampling = (settings) =>
  Object.fromEntries(['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens']
    .filter((name) => (settings[name] ?? '') !== '').map((name) => [name, Number(settings[name])]));

// One answer as parts: {text}, or {call, result, is_error} of a tool.
// A chat model answers the messages; a base model continues their text.
// onchange(answer) is called for every event.
export async function answer({ model, messages, settings, seed, signal }, onchange) {
  const made = { parts: [], model: model.id, seed, finish: null, usage: null };
  const started = performance.now();
  const options = { stream: true, stream_options: { include_usage: true } };
  const body = { model: model.id, seed, ...options, ...sampling(settings) };
  if (model.is_chat) body.messages = messages;
  else body.prompt = messages.map((message) => message.content).join('');
  const path = model.is_chat ? 'v1/chat/completions' : 'v1/completions';
  for await (const event of stream(path, body, signal)) {
    const choice = event.choices?.[0], delta = choice?.delta;
    const text = delta?.content ?? choice?.text;
    if (text) {
      made.first_s ??= (performance.now() - started) / 1000;
      if (made.parts.at(-1)?.text === undefined) made.parts.push({ text: '' });
      made.parts.at(-1).text += text;
    }
    const tool = event.llm_jax ?? delta?.llm_jax;
    if (tool) made.parts.push(tool);
    for (const piece of delta?.tool_calls ?? []) addCall(made.parts, piece);
    if (choice?.finish_reason) made.finish = choice.finish_reason;
    if (event.usage) made.usage = event.usage;
    made.seconds = (performance.now() - started) / 1000;
    onchange(made);
  }
  return made;
}

// A call that the client is to run: its arguments come in pieces.
function addCall(parts, piece) {
  let part = parts.find((other) => other.index === piece.index && other.call);
  if (!part) {
    part = { index: piece.index, call: { name: '', arguments: '' } };
    parts.push(part);
  }
  part.call.name += piece.function?.name ?? '';
  part.call.arguments += piece.function?.arguments ?? '';
}

const names = new Map();

// The text of single tokens, asked once each.
export function tokenTexts(model, ids) {
  return Promise.all(ids.map((id) => {
    const key = `${model}:${id}`;
    if (!names.has(key)) {
      const asked = post('detokenize', { model, tokens: [id] }).then((reply) => reply.prompt);
      asked.catch(() => names.delete(key));
      names.set(key, asked);
    }
    return names.get(key);
  }));
}

// [id, logp] of likely next tokens, the likeliest first.
export async function nextTokens(model, prompt) {
  const { choices } = await post('v1/completions', {
    model, prompt, max_tokens: 1, logprobs: 20, temperature: 0, return_tokens_as_token_ids: true,
  });
  return Object.entries(choices[0].logprobs.top_logprobs[0])
    .map(([name, logp]) => [Number(name.replace('token_id:', '')), logp])
    .sort((a, b) => b[1] - a[1]).slice(0, 20);
}
