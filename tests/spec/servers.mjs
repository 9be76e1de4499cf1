// The servers of the spec: the program under test, a redis-server for it, and what a feeder does there.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pause, until } from './clients.mjs';

export const SCORE_CHANNEL = 'stream.score_updates';

export function tweetChannel(id) {
  return `stream.tweet_updates.${id}`;
}

const children = new Set();
const directories = new Set();

// However this process ends, nothing that it started stays behind.
process.on('exit', () => {
  for (const child of children) {
    child.process.kill('SIGKILL');
  }
  for (const directory of directories) {
    rmSync(directory, { recursive: true, force: true });
  }
});
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]));
}

/** Shows what the programs that still run have written, for whoever looks into a failure. */
export function showOutput() {
  for (const { process: { pid, spawnfile }, lines } of children) {
    console.error([`-- ${spawnfile} (${pid}) wrote:`, ...lines].join('\n   '));
  }
}

/** A directory that does not outlive this process. */
export function temporaryDirectory() {
  const directory = mkdtempSync(join(tmpdir(), 'emojitrack-spec-'));
  directories.add(directory);
  return directory;
}

export function removeDirectory(directory) {
  rmSync(directory, { recursive: true, force: true });
  directories.delete(directory);
}

/** A program that was started, with what it wrote. */
export class Child {
  lines = [];

  constructor(command, flags, environment = {}) {
    // The environment is not handed down: a PORT or a REDIS_URL in it would change what is tested.
    const env = { PATH: process.env.PATH, ...environment };
    this.process = spawn(command, flags, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => {
      this.process.on('error', (error) => {
        this.lines.push(String(error));
        resolve({ code: null, signal: null });
      });
      this.process.on('exit', (code, signal) => resolve({ code, signal }));
    });
    children.add(this);
    this.ended.then(() => {
      children.delete(this);
      this.hasEnded = true;
    });
    for (const output of [this.process.stdout, this.process.stderr]) {
      createInterface({ input: output }).on('line', (line) => this.lines.push(line));
    }
  }

  /** Waits for a line and returns its match; a program that ends before has failed. */
  async wrote(pattern) {
    const match = () => this.lines.map((line) => line.match(pattern)).find(Boolean);
    await until(() => this.hasEnded || match(), `a line like ${pattern} in: ${this.lines.join('\n')}`);
    assert.ok(match(), `ended without a line like ${pattern}:\n${this.lines.join('\n')}`);
    return match();
  }

  /** Ends the program and returns how it ended. */
  async end(signal = 'SIGTERM') {
    this.process.kill(signal);
    const deadline = pause(60_000).then(() => null);
    const ending = await Promise.race([this.ended, deadline]);
    if (ending === null) {
      this.process.kill('SIGKILL');
      assert.fail(`still running 60 s after ${signal}:\n${this.lines.join('\n')}`);
    }
    return ending;
  }
}

/** The program under test. */
export class Streamer {
  constructor(flags, environment) {
    this.flags = flags;
    this.environment = environment;
  }

  static async start(flags, environment = {}) {
    const streamer = new Streamer(flags, environment);
    await streamer.run(0);
    return streamer;
  }

  async run(port) {
    const command = process.env.STREAMER_BINARY;
    assert.ok(command, 'STREAMER_BINARY names no program; run.sh builds one and sets it');
    const flags = ['--port', String(port), '--listen', '127.0.0.1', ...this.flags];
    this.child = new Child(command, flags, this.environment);
    const [, base] = await this.child.wrote(/listening on (http:\/\/127\.0\.0\.1:\d+)$/);
    this.base = base;
  }

  url(path) {
    return this.base + path;
  }

  /** Runs the program again where it was before. */
  async runAgain() {
    await this.run(new URL(this.base).port);
  }

  /** Ends the program without a word, as a crash does. */
  async crash() {
    await this.child.end('SIGKILL');
  }

  /** Ends the program in order; anything but a clean end is a failure. */
  async stop() {
    const ending = await this.child.end('SIGTERM');
    assert.deepEqual(ending, { code: 0, signal: null }, this.child.lines.join('\n'));
  }
}

/** A redis-server of our own, and a connection to it that publishes. */
export class Redis {
  static async start() {
    const redis = new Redis();
    // Another program may take the free port before redis-server does.
    for (let attempt = 1; !(await redis.run()); attempt += 1) {
      assert.ok(attempt < 3, `redis-server does not start:\n${redis.child.lines.join('\n')}`);
    }
    redis.socket = net.connect(redis.port, '127.0.0.1');
    redis.socket.setNoDelay();
    redis.replies = [];
    createInterface({ input: redis.socket }).on('line', (line) => redis.replies.shift()?.(line));
    // What is under way when the server stops is of no interest any more.
    redis.socket.on('error', () => {});
    return redis;
  }

  async run() {
    this.port = await freePort();
    this.directory ??= temporaryDirectory();
    const place = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.directory];
    const flags = [...place, '--save', '', '--appendonly', 'no'];
    this.child = new Child('redis-server', flags);
    await until(
      () => this.child.hasEnded || this.child.lines.some((line) => /ready to accept/i.test(line)),
      'redis-server is ready',
    );
    return !this.child.hasEnded;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Sends a command whose reply is an integer, and returns that. */
  async command(...words) {
    const encoded = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('');
    const reply = new Promise((resolve) => this.replies.push(resolve));
    this.socket.write(`*${words.length}\r\n${encoded}`);
    const line = await reply;
    assert.match(line, /^:\d+$/, `${words[0]} was answered with ${line}`);
    return Number(line.slice(1));
  }

  /** Publishes a message, which somebody must be there to receive. */
  async publish(channel, payload) {
    const receivers = await this.command('PUBLISH', channel, payload);
    assert.ok(receivers > 0, `nobody is subscribed to ${channel}`);
  }

  /** Does for one tweet with one emoji what the feeder does. */
  async feed(id, tweet) {
    const script = `
      redis.call('ZINCRBY', 'emojitrack_score', 1, ARGV[1])
      redis.call('PUBLISH', 'stream.score_updates', ARGV[1])
      redis.call('LPUSH', 'emojitrack_tweets_' .. ARGV[1], ARGV[2])
      redis.call('LTRIM', 'emojitrack_tweets_' .. ARGV[1], 0, 9)
      return redis.call('PUBLISH', 'stream.tweet_updates.' .. ARGV[1], ARGV[2])`;
    await this.command('EVAL', script, '0', id, tweet);
  }

  /** How many subscriptions there are to what a server cannot do without. */
  subscriptions() {
    const script = `
      local scores = redis.call('PUBSUB', 'NUMSUB', 'stream.score_updates')[2]
      local tweets = redis.call('PUBSUB', 'NUMPAT')
      return math.min(scores, tweets)`;
    return this.command('EVAL', script, '0');
  }

  async stop() {
    this.socket.destroy();
    await this.child.end();
    removeDirectory(this.directory);
  }
}

/** The program under test with a Redis of its own. */
export class RedisAndStreamer {
  static async start(environment = {}) {
    const both = new RedisAndStreamer();
    both.redis = await Redis.start();
    both.streamer = await Streamer.start([], { REDIS_URL: both.redis.url, ...environment });
    await both.subscribed();
    return both;
  }

  async subscribed() {
    await until(async () => (await this.redis.subscriptions()) === 1, 'the server subscribes at Redis');
  }

  async unsubscribed() {
    await until(async () => (await this.redis.subscriptions()) === 0, 'Redis sees the server go');
  }

  url(path) {
    return this.streamer.url(path);
  }

  publish(channel, payload) {
    return this.redis.publish(channel, payload);
  }

  async crash() {
    await this.streamer.crash();
    await this.unsubscribed();
  }

  async stopStreamer() {
    await this.streamer.stop();
    await this.unsubscribed();
  }

  async runAgain() {
    await this.streamer.runAgain();
    await this.subscribed();
  }

  async stop() {
    await this.streamer.stop();
    await this.redis.stop();
  }
}

/** The program under test with a Redis and a feeder at work: about 250 updates a second. */
export class FedStreamer {
  static async start(environment) {
    const fed = new FedStreamer();
    fed.both = await RedisAndStreamer.start(environment);
    fed.feeding = fed.feed();
    return fed;
  }

  async feed() {
    const ids = ['1F602', '2764', '2665', '1F60D', '1F1FA-1F1F8', '0023-20E3'];
    for (let count = 0; !this.stopping; count += 1) {
      const id = ids[count % ids.length];
      const tweet = { id: String(count), text: `tweet ${count}`, screen_name: 'spec', name: 'The Spec' };
      await this.both.redis.feed(id, JSON.stringify(tweet));
      await pause(4);
    }
  }

  url(path) {
    return this.both.url(path);
  }

  async stop() {
    this.stopping = true;
    await this.feeding;
    await this.both.stop();
  }
}

/** A port that nobody listens on; another program may take it at any time. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
