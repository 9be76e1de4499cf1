// The Emojitracker Streaming API, as a client meets it.
//
//     tests/spec/run.sh                                        builds the program and checks it
//     STREAM_SERVER=http://localhost:8001 tests/spec/run.sh    checks a server that is running
//
// The first form starts the program by itself: with an embedded feeder, with a redis-server and a feeder
// of its own, and with a redis-server where every message is chosen by a test. The second form needs
// neither the program nor Redis, and makes only the checks that do without publishing; the server must
// have a feed, because messages are waited for.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { Listener, WireReader, closeClients, exchange, fetchWhole, pause, until } from './clients.mjs';
import { FedStreamer, RedisAndStreamer, Streamer } from './servers.mjs';
import { SCORE_CHANNEL, showOutput, tweetChannel } from './servers.mjs';

const EMOJI_ID = /^[0-9A-F]{4,6}(-[0-9A-F]{4,6})*$/;

// A stream that is opened only by its first news, or by the first keepalive after 15 seconds, is later.
const AT_ONCE_MS = 3_000;

afterEach(function () {
  closeClients();
  if (this.currentTest?.state === 'failed') {
    showOutput();
  }
});

if (process.env.STREAM_SERVER) {
  const base = process.env.STREAM_SERVER.replace(/\/+$/, '');
  const server = { url: (path) => base + path, stop() {} };
  describeServerWithFeed(`the server at ${base}`, () => server);
} else {
  const environment = { DYNO: 'web.1' };
  const node = /^\w+-\w+-\w+\.\d+$/;
  // There is more to wait for at the usual rate, with its few tweets a second for even the first emoji.
  const demo = ['--demo', '--demo-rate', '1000'];
  describeServerWithFeed('with the embedded feeder', () => Streamer.start(demo, environment), node);
  describeServerWithFeed('with Redis and a feeder', () => FedStreamer.start(environment), node);
  describe('the embedded feeder', describeEmbeddedFeeder);
  describe('with Redis and chosen messages', describeMessages);
  describe('a server that goes away', describeReconnection);
  describe('a server that is configured otherwise', describeConfiguration);
}

/** What holds for every server to which messages come by themselves. */
function describeServerWithFeed(title, start, node = /./) {
  describe(title, () => {
    let server;
    before(async () => {
      server = await start();
    });
    after(() => server?.stop());

    for (const path of ['/subscribe/raw', '/subscribe/eps', '/subscribe/details/2665']) {
      describe(path, () => {
        // A deployment may do without the raw stream.
        before(async function () {
          const { status } = await fetchWhole(server.url(path), { method: 'HEAD' });
          if (path === '/subscribe/raw' && status === 404) {
            this.skip();
          }
        });

        it('answers HEAD with the head of an event stream, and nothing else', async () => {
          const answer = await fetchWhole(server.url(path), { method: 'HEAD' });
          assertStreamHead(answer);
          assert.equal(answer.body, '');
        });

        it('answers GET with the same head and goes on', async () => {
          const reader = await WireReader.open(server.url(path));
          assertStreamHead(reader);
          await reader.receivedNews(1);
          assert.equal(reader.ended, false);
        });

        it('opens before the first message', async () => {
          const listener = await Listener.open(server.url(path), [tweetChannel('2665')]);
          await listener.received(1);
          assert.equal(listener.opens[0], 0);
        });
      });
    }

    it('/subscribe/raw sends the ID of an emoji for each update', async function () {
      const { status } = await fetchWhole(server.url('/subscribe/raw'), { method: 'HEAD' });
      if (status === 404) {
        this.skip();
      }
      const listener = await Listener.open(server.url('/subscribe/raw'));
      for (const event of await listener.received(20)) {
        assert.equal(event.name, 'message');
        assert.equal(event.lastEventId, '');
        assert.match(event.data, EMOJI_ID);
      }
    });

    it('/subscribe/eps sends maps from IDs to increments', async () => {
      const listener = await Listener.open(server.url('/subscribe/eps'));
      for (const event of await listener.received(20)) {
        assert.equal(event.name, 'message');
        assert.equal(event.lastEventId, '');
        increments(event);
      }
    });

    it('/subscribe/details/:id sends the tweets with that emoji, as named events', async () => {
      const id = await frequentId(server);
      const listener = await Listener.open(server.url(`/subscribe/details/${id}`), [tweetChannel(id)]);
      for (const event of await listener.received(3)) {
        assert.equal(event.name, `stream.tweet_updates.${id}`);
        assert.equal(event.lastEventId, '');
        const tweet = JSON.parse(event.data);
        for (const field of ['id', 'text', 'screen_name', 'name']) {
          assert.equal(typeof tweet[field], 'string', `${field} in ${event.data}`);
        }
      }
    });

    it('writes blocks that end with one blank line, and no IDs', async () => {
      const id = await frequentId(server);
      const readers = await Promise.all([
        WireReader.open(server.url('/subscribe/eps')),
        WireReader.open(server.url(`/subscribe/details/${id}`)),
      ]);
      for (const reader of readers) {
        await reader.receivedNews(3);
        assertWellFormed(reader);
      }
      const [eps, details] = readers;
      for (const block of eps.news.filter(isMessage)) {
        assert.match(block, /^data:\s?\{.*\}$/);
      }
      for (const block of details.news.filter(isMessage)) {
        assert.match(block, new RegExp(`^event:\\s?stream\\.tweet_updates\\.${id}\ndata:\\s?\\{.*\\}$`));
      }
    });

    it('makes an EventSource give up on a path that does not exist', async () => {
      await assertGivesUp(server.url('/subscribe/nothing'), 404);
    });

    it('/admin/status.json shows the state of the server and its connections', async () => {
      const agent = 'emojitrack-spec/1.0';
      await WireReader.open(server.url('/subscribe/details/2665'), { 'User-Agent': agent });
      const answer = await fetchWhole(server.url('/admin/status.json'));
      assert.equal(answer.status, 200);
      assert.match(answer.headers['content-type'], /^application\/json\b/);

      const report = JSON.parse(answer.body);
      assert.equal(typeof report.node, 'string');
      assert.match(report.node, node);
      assert.equal(report.status, 'OK');
      assert.ok(Number.isInteger(report.reported_at), answer.body);
      assert.ok(Array.isArray(report.connections), answer.body);
      const fields = { request_path: 'string', namespace: 'string', created_at: 'number' };
      for (const [field, type] of Object.entries({ ...fields, client_ip: 'string', user_agent: 'string' })) {
        assert.equal(typeof report.connections[0][field], type, `${field} in ${answer.body}`);
      }

      const ours = report.connections.find((connection) => connection.user_agent === agent);
      assert.ok(ours, answer.body);
      assert.equal(ours.request_path, '/subscribe/details/2665');
      assert.equal(ours.namespace, '/details/2665');
      assert.ok(Math.abs(ours.created_at - report.reported_at) < 60, answer.body);
    });
  });
}

/** What the embedded feeder does beyond what every feeder does. */
function describeEmbeddedFeeder() {
  it('wakes at once for a lone listener, and for the next one', async () => {
    const server = await Streamer.start(['--demo']);
    for (const path of ['/subscribe/raw', '/subscribe/eps']) {
      const listener = await Listener.open(server.url(path));
      await listener.received(20, AT_ONCE_MS);
      closeClients();
      // The feeder has time to see that nobody is left.
      await pause(200);
    }
    await server.stop();
  });

  it('sends as many updates as it was asked to', async () => {
    const server = await Streamer.start(['--demo', '--demo-rate', '1000']);
    const listener = await Listener.open(server.url('/subscribe/eps'));
    await listener.received(1);
    await pause(2_000);
    const [first, last] = [listener.events[0], listener.events.at(-1)];
    const perSecond = (1_000 * (total(totals(listener)) - total(increments(first)))) / (last.at - first.at);
    assert.ok(perSecond > 800 && perSecond < 1_200, `${perSecond} updates a second`);
    await server.stop();
  });
}

/** What becomes of each message. */
function describeMessages() {
  let server;
  before(async () => {
    server = await RedisAndStreamer.start();
  });
  after(() => server?.stop());

  it('ends a connection behind the head that HEAD asked for', async () => {
    const head = 'HEAD /subscribe/eps HTTP/1.1\r\nHost: spec\r\nConnection: close\r\n\r\n';
    const answer = await exchange(server.url('/'), head);
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.equal(answer.indexOf('\r\n\r\n'), answer.length - 4);
  });

  for (const path of ['/subscribe/raw', '/subscribe/eps', '/subscribe/details/2665', '/subscribe/details']) {
    it(`opens ${path} at once while there is no news`, async () => {
      const start = performance.now();
      const [listener, reader] = await Promise.all([
        Listener.open(server.url(path)),
        WireReader.open(server.url(path)),
      ]);
      await until(() => reader.text !== '', `the first bytes of ${path}`);
      assert.ok(performance.now() - start < AT_ONCE_MS);
      assert.equal(reader.text, ':\n');
      assert.deepEqual(listener.events, []);
    });
  }

  it('/subscribe/raw repeats each update, in order', async () => {
    const listener = await Listener.open(server.url('/subscribe/raw'));
    const ids = ['1F4C2', '2665', '1F1FA-1F1F8', '2665', '0023-20E3'];
    for (const id of ids) {
      await server.publish(SCORE_CHANNEL, id);
    }
    await listener.received(ids.length);
    assert.deepEqual(listener.data, ids);
  });

  it('/subscribe/eps sums the updates of each ID', async () => {
    const listener = await Listener.open(server.url('/subscribe/eps'));
    const updates = ['1F4C2', '2665', '1F4C2', '2665', '1F1FA-1F1F8', '2665'];
    await Promise.all(updates.map((id) => server.publish(SCORE_CHANNEL, id)));
    const expected = { '1F4C2': 2, 2665: 3, '1F1FA-1F1F8': 1 };
    await until(() => total(totals(listener)) === updates.length, 'all updates are counted');
    assert.deepEqual(totals(listener), expected);
  });

  it('/subscribe/eps sends at most every 17 milliseconds, and nothing when there is nothing', async () => {
    const listener = await Listener.open(server.url('/subscribe/eps'));
    const count = 300;
    const start = performance.now();
    for (let sent = 0; sent < count; sent += 1) {
      await server.publish(SCORE_CHANNEL, '2665');
      await pause(2);
    }
    await until(() => total(totals(listener)) === count, 'all updates are counted');
    const elapsed = listener.events.at(-1).at - start;
    const ticks = Math.ceil(elapsed / 17) + 1;
    assert.ok(listener.events.length <= ticks, `${listener.events.length} messages in ${elapsed} ms`);

    const messages = listener.events.length;
    await pause(200);
    assert.equal(listener.events.length, messages);
  });

  it('/subscribe/details/:id sends the tweets of exactly that ID, and no plain message', async () => {
    const others = ['1F4C', '1F4C22', '1F4C2-1F4C2', '1f4c2'];
    const names = ['1F4C2', ...others].map(tweetChannel);
    const listener = await Listener.open(server.url('/subscribe/details/1F4C2'), names);
    await server.publish(SCORE_CHANNEL, '1F4C2');
    for (const other of others) {
      await server.publish(tweetChannel(other), '{"text":"another emoji"}');
    }
    // What Redis sends on one connection stays in order: with this, all the others have been passed over.
    const tweet = '{"id":"1","text":"filed under 📂, “quoted”","links":[]}';
    await server.publish(tweetChannel('1F4C2'), tweet);
    await listener.received(1);
    assert.deepEqual(withoutTimes(listener), [named(tweetChannel('1F4C2'), tweet)]);
  });

  it('/subscribe/details sends the tweets of every ID', async () => {
    const ids = ['1F4C2', '2665', '1F1FA-1F1F8'];
    const listener = await Listener.open(server.url('/subscribe/details'), ids.map(tweetChannel));
    await server.publish(SCORE_CHANNEL, '2665');
    for (const id of ids) {
      await server.publish(tweetChannel(id), JSON.stringify({ id }));
    }
    await listener.received(ids.length);
    const expected = ids.map((id) => named(tweetChannel(id), JSON.stringify({ id })));
    assert.deepEqual(withoutTimes(listener), expected);
  });

  it('sends the same to everybody', async () => {
    const opening = Array.from({ length: 20 }, () => Listener.open(server.url('/subscribe/raw')));
    const listeners = await Promise.all(opening);
    const ids = Array.from({ length: 50 }, (_, index) => (0x1f600 + index).toString(16).toUpperCase());
    await Promise.all(ids.map((id) => server.publish(SCORE_CHANNEL, id)));
    for (const listener of listeners) {
      await listener.received(ids.length);
      assert.deepEqual(listener.data, ids);
    }
  });

  it('keeps payloads as they are, with line breaks of any kind as line feeds', async () => {
    const payloads = [
      ['one\ntwo', 'one\ntwo'],
      ['one\r\ntwo', 'one\ntwo'],
      ['one\rtwo', 'one\ntwo'],
      ['one\n\ntwo', 'one\n\ntwo'],
      ['one\n\rtwo\r\n', 'one\n\ntwo\n'],
      ['\n', '\n'],
      ['data:one\nid:7\nretry:1\n\nevent:two', 'data:one\nid:7\nretry:1\n\nevent:two'],
      [' one\n  two', ' one\n  two'],
      [':one', ':one'],
      ['“one” 📂 \u2028 \t', '“one” 📂 \u2028 \t'],
    ];
    const channel = tweetChannel('2665');
    const listener = await Listener.open(server.url('/subscribe/details/2665'), [channel, 'two']);
    for (const [payload] of payloads) {
      await server.publish(channel, payload);
    }
    await listener.received(payloads.length);
    const expected = payloads.map(([, data]) => named(channel, data));
    assert.deepEqual(withoutTimes(listener), expected);
  });

  it('writes exactly these bytes', async () => {
    const paths = ['/subscribe/raw', '/subscribe/eps', '/subscribe/details/2665'];
    const readers = await Promise.all(paths.map((path) => WireReader.open(server.url(path))));
    await server.publish(SCORE_CHANNEL, '2665');
    await server.publish(tweetChannel('2665'), '{"text":"one\ntwo"}');
    const expected = [
      ':\ndata:2665\n\n',
      ':\ndata:{"2665":1}\n\n',
      ':\nevent:stream.tweet_updates.2665\ndata:{"text":"one\ndata:two"}\n\n',
    ];
    for (const [index, reader] of readers.entries()) {
      await reader.receivedNews(1);
      assert.equal(reader.text, expected[index]);
      assertWellFormed(reader);
      assert.equal(reader.headers['transfer-encoding'], 'chunked');
    }
  });

  it('/admin/status.json lists who is connected, the oldest first, and forgets who has left', async () => {
    const status = async () => JSON.parse((await fetchWhole(server.url('/admin/status.json'))).body);
    await until(async () => (await status()).connections.length === 0, 'everybody has left');
    const paths = ['/subscribe/raw', '/subscribe/details/2665', '/subscribe/eps'];
    for (const path of paths) {
      await Listener.open(server.url(path));
    }
    await until(async () => (await status()).connections.length === paths.length, 'all are listed');
    const { connections } = await status();
    assert.deepEqual(connections.map((connection) => connection.request_path), paths);
    assert.deepEqual(connections.map((connection) => connection.tag), [null, '2665', null]);
    assert.deepEqual(connections.map((connection) => connection.client_ip), Array(3).fill('127.0.0.1'));
    closeClients();
    await until(async () => (await status()).connections.length === 0, 'everybody has left again');
  });
}

/** What an EventSource does when its server ends and comes back. */
function describeReconnection() {
  const retryMs = 400;
  // Ten times what a busy machine needs, and still well below the three seconds that this EventSource
  // waits when it was told nothing.
  const toleranceMs = 1_500;

  const ways = [
    { title: 'a crash', way: 'crash', hasEnd: false },
    { title: 'a stop in order, which ends the streams in order', way: 'stopStreamer', hasEnd: true },
  ];
  for (const { title, way, hasEnd } of ways) {
    it(`is found again after ${title}`, async function () {
      // A server that stops in order may take its time to send its clients away.
      this.timeout(150_000);
      const server = await RedisAndStreamer.start();
      const listener = await Listener.open(server.url('/subscribe/raw'));
      const reader = await WireReader.open(server.url('/subscribe/raw'));
      await server.publish(SCORE_CHANNEL, '1F4C2');
      await listener.received(1);

      await server[way]();
      await until(() => listener.errors.length > 0, 'the EventSource sees the end');
      assert.equal(listener.source.readyState, EventSource.CONNECTING);
      await until(() => reader.closed, 'the reader sees the end');
      assert.equal(reader.ended, hasEnd);
      // While a server stops, it may tell those who come back that they are to come later.
      const opens = listener.opens.length;
      await server.runAgain();
      await listener.opened(opens + 1, 60_000);
      await server.publish(SCORE_CHANNEL, '2665');
      await listener.received(2);
      assert.deepEqual(listener.data, ['1F4C2', '2665']);
      closeClients();
      await server.stop();
    });
  }

  it('is tried again after the time that SSE_RECONNECT_MS sets', async () => {
    const server = await RedisAndStreamer.start({ SSE_RECONNECT_MS: String(retryMs) });
    const paths = ['/subscribe/raw', '/subscribe/eps', '/subscribe/details/2665'];
    for (const path of paths) {
      const reader = await WireReader.open(server.url(path));
      await until(() => reader.text.endsWith('\n'), `the first line of ${path}`);
      assert.equal(reader.text, `retry:${retryMs}\n`);
    }
    const names = [tweetChannel('2665')];
    const listeners = await Promise.all(paths.map((path) => Listener.open(server.url(path), names)));
    // The EventSource opens on the head, and the retry comes behind that: a message shows that it has come.
    await server.publish(SCORE_CHANNEL, '2665');
    await server.publish(tweetChannel('2665'), '{"text":"one"}');
    await Promise.all(listeners.map((listener) => listener.received(1)));

    await server.crash();
    for (const listener of listeners) {
      await until(() => listener.attempts.length > 1, 'a second attempt');
      const waited = listener.attempts[1] - listener.errors[0].at;
      assert.ok(waited > retryMs - 50, `tried again after ${waited} ms`);
      assert.ok(waited < retryMs + toleranceMs, `tried again after ${waited} ms`);
    }
    await server.runAgain();
    await Promise.all(listeners.map((listener) => listener.opened(2)));
    closeClients();
    await server.stop();
  });
}

/** Streams that are there or not as it was chosen. */
function describeConfiguration() {
  it('serves no kiosk commands unless it was asked to', async () => {
    const server = await Streamer.start(['--demo']);
    await assertGivesUp(server.url('/subscribe/kiosk_interaction'), 404);
    await server.stop();
  });

  it('serves kiosk commands, and no raw stream, when asked to', async () => {
    const server = await RedisAndStreamer.start({
      ENABLE_KIOSK_INTERACTION_STREAM: 'true',
      ENABLE_RAW_STREAM: 'false',
    });
    await assertGivesUp(server.url('/subscribe/raw'), 404);

    const channel = 'stream.interaction.request';
    const listener = await Listener.open(server.url('/subscribe/kiosk_interaction'), [channel]);
    await server.publish(channel, '{"command":"left"}');
    await listener.received(1);
    assert.deepEqual(withoutTimes(listener), [named(channel, '{"command":"left"}')]);

    const scores = await Listener.open(server.url('/subscribe/eps'));
    await server.publish(SCORE_CHANNEL, '2665');
    await scores.received(1);
    assert.deepEqual(totals(scores), { 2665: 1 });
    closeClients();
    await server.stop();
  });
}

function assertStreamHead({ status, headers }) {
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/event-stream; charset=utf-8');
  assert.equal(headers['cache-control'], 'no-cache');
  assert.equal(headers.connection, 'keep-alive');
  assert.equal(headers['access-control-allow-origin'], '*');
  assert.equal(headers['content-length'], undefined);
}

/** Checks what has come so far against the grammar of event streams, and against what we leave out. */
function assertWellFormed(reader) {
  assert.doesNotMatch(reader.text, /\r/);
  for (const block of reader.blocks) {
    assert.notEqual(block, '', `a blank line too many in ${JSON.stringify(reader.text)}`);
    assert.doesNotMatch(block, /^\n/, `a blank line too many in ${JSON.stringify(reader.text)}`);
    for (const line of block.split('\n')) {
      assert.match(line, /^(:.*|data:.*|event:[^:]+|retry:\d+)$/);
    }
    assert.ok(isMessage(block), `an empty message in ${JSON.stringify(reader.text)}`);
  }
}

function isMessage(block) {
  return /^data:/m.test(block);
}

async function assertGivesUp(url, status) {
  const listener = new Listener(url);
  await until(() => listener.errors.length > 0, `${url} fails`);
  assert.equal(listener.source.readyState, EventSource.CLOSED);
  assert.equal(listener.errors[0].code, status);
  assert.equal(listener.opens.length, 0);
  assert.equal(listener.attempts.length, 1);
}

/** The increments of one message of the eps stream, checked. */
function increments(event) {
  const map = JSON.parse(event.data);
  const entries = Object.entries(map);
  assert.ok(entries.length > 0, event.data);
  for (const [id, increment] of entries) {
    assert.match(id, EMOJI_ID);
    assert.ok(Number.isInteger(increment) && increment > 0, event.data);
  }
  return map;
}

/** The increments of all messages of the eps stream, summed. */
function totals(listener) {
  const sums = {};
  for (const event of listener.events) {
    for (const [id, increment] of Object.entries(increments(event))) {
      sums[id] = (sums[id] ?? 0) + increment;
    }
  }
  return sums;
}

function total(sums) {
  return Object.values(sums).reduce((sum, increment) => sum + increment, 0);
}

/** An ID that is updated often, so that a test need not wait long for its tweets. */
async function frequentId(server) {
  const listener = await Listener.open(server.url('/subscribe/eps'));
  const often = () => Object.entries(totals(listener)).find(([, count]) => count >= 8);
  const [id] = await until(often, 'an ID that is updated often');
  return id;
}

function withoutTimes(listener) {
  return listener.events.map(({ name, data, lastEventId }) => ({ name, data, lastEventId }));
}

/** A named event as it should be received: without an ID. */
function named(name, data) {
  return { name, data, lastEventId: '' };
}
