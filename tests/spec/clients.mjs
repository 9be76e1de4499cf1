// The clients of the spec: a real EventSource that writes down what happens to it, and readers that
// see the bytes which an EventSource hides.

import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { EventSource } from 'eventsource';

const opened = new Set();

/** Closes every client that is still there; each test ends with this. */
export function closeClients() {
  for (const client of opened) {
    client.close();
  }
  opened.clear();
}

/** Waits until `condition` holds, and says what it was waiting for when it never does. */
export async function until(condition, what, deadlineMs = 10_000) {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (performance.now() > deadline) {
      assert.fail(`waited ${deadlineMs} ms in vain: ${what}`);
    }
    await pause(5);
  }
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** An EventSource with a diary. Plain messages are always written down, named events when asked for. */
export class Listener {
  /** The moment of each attempt to connect. */
  attempts = [];
  /** How many events had come before each `open`. */
  opens = [];
  /** Everything received, in order: `{ name, data, lastEventId, at }`. */
  events = [];
  /** The moment and the status of each failure. */
  errors = [];

  constructor(url, names = []) {
    const attempt = (...request) => {
      this.attempts.push(performance.now());
      return fetch(...request);
    };
    this.source = new EventSource(url, { fetch: attempt });
    this.source.addEventListener('open', () => this.opens.push(this.events.length));
    this.source.addEventListener('error', ({ code }) => {
      this.errors.push({ at: performance.now(), code });
    });
    for (const name of ['message', ...names]) {
      this.source.addEventListener(name, ({ type, data, lastEventId }) => {
        this.events.push({ name: type, data, lastEventId, at: performance.now() });
      });
    }
    opened.add(this);
  }

  /** A listener that is already open. */
  static async open(url, names) {
    const listener = new Listener(url, names);
    await listener.opened();
    return listener;
  }

  async opened(times = 1, deadlineMs) {
    const isOpen = () => this.opens.length >= times;
    await until(isOpen, `${this.source.url} is opened for the ${times}. time`, deadlineMs);
  }

  /** Waits for `count` events altogether and returns them. */
  async received(count, deadlineMs) {
    const isThere = () => this.events.length >= count;
    await until(isThere, `${this.source.url} sends ${count} events`, deadlineMs);
    return this.events;
  }

  get data() {
    return this.events.map((event) => event.data);
  }

  close() {
    this.source.close();
  }
}

/** The text of a stream as it comes, with only the transfer coding taken off. */
export class WireReader {
  text = '';
  /** The stream has come to an announced end. */
  ended = false;
  /** The stream has come to any end. */
  closed = false;

  static open(url, headers = {}) {
    return new Promise((resolve, reject) => {
      const agent = new (module(url).Agent)({ keepAlive: true });
      const options = { agent, headers: { Accept: 'text/event-stream', ...headers } };
      const request = module(url).get(url, options, (response) => {
        resolve(new WireReader(request, response));
      });
      request.on('error', reject);
    });
  }

  constructor(request, response) {
    this.request = request;
    this.status = response.statusCode;
    this.headers = response.headers;
    response.setEncoding('utf8');
    response.on('data', (text) => (this.text += text));
    response.on('end', () => (this.ended = true));
    response.on('close', () => (this.closed = true));
    // An end that is not announced is an error to `node:http`; what is left of it here is `ended`.
    response.on('error', () => {});
    request.on('error', () => {});
    opened.add(this);
  }

  /** The blocks of the stream that are whole, each without its blank line. */
  get blocks() {
    return this.text.split('\n\n').slice(0, -1);
  }

  /** The whole blocks without comments and `retry:`, as far as anything is left of them. */
  get news() {
    const isNews = (line) => !/^(:|retry:)/.test(line);
    const news = this.blocks.map((block) => block.split('\n').filter(isNews).join('\n'));
    return news.filter((block) => block !== '');
  }

  async receivedNews(count) {
    await until(() => this.news.length >= count, `${count} blocks of news in ${JSON.stringify(this.text)}`);
    return this.news;
  }

  close() {
    this.request.destroy();
  }
}

/** Makes one request and returns its answer once that has ended. */
export function fetchWhole(url, { method = 'GET', headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    const agent = new (module(url).Agent)({ keepAlive: true });
    const request = module(url).request(url, { agent, method, headers }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text) => (body += text));
      response.on('error', reject);
      response.on('end', () => {
        agent.destroy();
        resolve({ status: response.statusCode, headers: response.headers, body });
      });
    });
    request.setTimeout(5_000, () => request.destroy(new Error(`${method} ${url}: no end of the answer`)));
    request.on('error', reject);
    request.end();
  });
}

/** Sends bytes and returns all bytes that come back until the server closes. */
export function exchange(base, bytes) {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = net.connect({ host: hostname, port, allowHalfOpen: true }, () => socket.write(bytes));
    socket.setEncoding('utf8');
    socket.setTimeout(5_000, () => socket.destroy(new Error(`not closed after ${JSON.stringify(received)}`)));
    socket.on('data', (text) => (received += text));
    socket.on('error', reject);
    socket.on('end', () => {
      socket.end();
      resolve(received);
    });
  });
}

function module(url) {
  return new URL(url).protocol === 'https:' ? https : http;
}
