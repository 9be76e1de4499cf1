// A proxy between the browser and the server. It writes down what was asked for, can cut streams off, and
// can hide, as some routers do, that the browser has left.

import http from 'node:http';

/** The page that tests bring their own scripts to. */
const BLANK = '<!DOCTYPE html><html lang="en"><link rel="icon" href="data:,"><title>blank</title>';

export class RecordingProxy {
  /** Every request, in order: `{ method, path, lastEventId, body, ended, cut() }`. */
  requests = [];

  static start(base, { hidesDepartures = false } = {}) {
    const proxy = new RecordingProxy(base, hidesDepartures);
    return new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', () => resolve(proxy)));
  }

  constructor(base, hidesDepartures) {
    this.target = new URL(base);
    this.hidesDepartures = hidesDepartures;
    this.agent = new http.Agent({ keepAlive: false });
    this.server = http.createServer((request, response) => this.passOn(request, response));
    // A proxy that waits to fill a segment would change when things happen.
    this.server.on('connection', (socket) => socket.setNoDelay());
  }

  passOn(request, response) {
    const { method, url, headers } = request;
    if (url === '/blank') {
      response.writeHead(200, { 'Content-Type': 'text/html' }).end(BLANK);
      return;
    }
    const record = { method, path: url.replace(/\?.*/, ''), lastEventId: headers['last-event-id'], body: '' };
    record.cut = () => response.socket?.destroy();
    this.requests.push(record);
    const { hostname, port } = this.target;
    const options = { agent: this.agent, hostname, port, method, path: url, headers };
    const upstream = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.setEncoding('latin1');
      answer.on('data', (text) => {
        record.body += text;
        response.write(text, 'latin1');
      });
      answer.on('end', () => {
        record.ended = true;
        response.end();
      });
      answer.on('error', () => response.socket?.destroy());
    });
    upstream.on('error', () => response.socket?.destroy());
    response.on('error', () => {});
    request.pipe(upstream);
    if (!this.hidesDepartures) {
      response.on('close', () => upstream.destroy());
    }
  }

  url(path) {
    return `http://127.0.0.1:${this.server.address().port}${path}`;
  }

  /** The requests for a path, in order. */
  requestsFor(path) {
    return this.requests.filter((request) => request.path === path);
  }

  stop() {
    this.agent.destroy();
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
