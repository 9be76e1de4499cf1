// Carries connections to a server, and cuts them off: what a network does that fails.

import net from 'node:net';

export class Cutter {
  /** The sockets of both sides of every connection. */
  sockets = new Set();
  /** Clients that wait for `release`; null while nobody has to. */
  held = null;

  static start(base) {
    const cutter = new Cutter(base);
    return new Promise((resolve) => cutter.server.listen(0, '127.0.0.1', () => resolve(cutter)));
  }

  constructor(base) {
    this.target = new URL(base);
    this.server = net.createServer((client) => {
      this.track(client);
      if (this.held) this.held.push(client);
      else this.connect(client);
    });
  }

  track(socket) {
    socket.setNoDelay();
    this.sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.sockets.delete(socket));
  }

  connect(client) {
    const server = net.connect(this.target.port, this.target.hostname);
    this.track(server);
    client.pipe(server).pipe(client);
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
  }

  /** Cuts off all connections at once: with a reset, or with an end that looks like any other. */
  cut({ resets = true } = {}) {
    for (const socket of this.sockets) {
      if (resets) socket.resetAndDestroy();
      else socket.destroy();
    }
  }

  /** Cuts off all connections, and lets those that come wait until `release`. */
  hold(how) {
    this.cut(how);
    this.held = [];
  }

  /** Lets those go on who wait. */
  release() {
    const held = this.held.filter((client) => !client.destroyed);
    this.held = null;
    held.forEach((client) => this.connect(client));
  }

  url(path) {
    return `http://127.0.0.1:${this.server.address().port}${path}`;
  }

  stop() {
    this.cut();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
