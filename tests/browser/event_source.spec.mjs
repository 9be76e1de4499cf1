// What only a browser shows: that its own EventSource comes back after a forced close to what it has missed,
// and forgets the id behind that.

import assert from 'node:assert/strict';
import { pause, until } from '../spec/clients.mjs';
import { RedisAndStreamer, SCORE_CHANNEL, tweetChannel } from '../spec/servers.mjs';
import { inBrowser } from './browser.mjs';
import { RecordingProxy } from './proxy.mjs';

/** For so long updates are published, while streams last two seconds at most. */
const PUBLISHING_MS = 15_000;
const FORCED_REFRESH = {
  SSE_FORCE_REFRESH: 'true',
  SSE_SCORE_FORCECLOSE_SEC: '2',
  SSE_DETAIL_FORCECLOSE_SEC: '2',
};

const EPS = '/subscribe/eps';
const RAW = '/subscribe/raw';
const DETAILS = '/subscribe/details/2665';

inBrowser('an EventSource across forced closes', (tab) => {
  let both;
  let proxy;
  before(async () => {
    both = await RedisAndStreamer.start(FORCED_REFRESH);
  });
  beforeEach(async () => {
    proxy = await RecordingProxy.start(both.url(''));
    await tab.page.goto(proxy.url('/blank'));
  });
  afterEach(() => proxy.stop());
  after(() => both?.stop());

  it('loses nothing and gets nothing twice', async () => {
    await tab.page.evaluate(listen, { eps: EPS, raw: RAW, details: DETAILS, tweet: tweetChannel('2665') });
    await tab.page.waitForFunction(() => globalThis.heard.opens.every((count) => count === 1));
    const published = {};
    const ids = ['2665', '1F602', '1F1FA-1F1F8', '0023-20E3'];
    let count = 0;
    for (const end = performance.now() + PUBLISHING_MS; performance.now() < end; count += 1) {
      const id = ids[(count * count) % ids.length];
      published[id] = (published[id] ?? 0) + 1;
      await both.publish(SCORE_CHANNEL, id);
      await both.publish(tweetChannel('2665'), JSON.stringify({ number: count }));
      await pause(4);
    }
    assert.ok(count > 500, `only ${count} updates could be published`);
    // Longer than a lifetime and a pause, so that what would come twice has the time to.
    const isComplete = ([expected]) => globalThis.heard.numbers.length >= expected;
    await tab.page.waitForFunction(isComplete, [count], { timeout: 10_000 });
    await pause(3_000);

    const heard = await tab.page.evaluate(() => globalThis.heard);
    assert.deepEqual(heard.sums, published, 'the sums of eps');
    assert.deepEqual(heard.rawSums, published, 'the sums of raw');
    assert.deepEqual(heard.numbers, Array.from({ length: count }, (_, number) => number));
    for (const opens of heard.opens) {
      assert.ok(opens >= 6, `streams were opened ${heard.opens} times`);
    }
    for (const path of [EPS, RAW, DETAILS]) {
      const requests = proxy.requestsFor(path);
      assert.equal(requests[0].lastEventId, undefined, `the first request for ${path}`);
      for (const [index, { lastEventId }] of requests.slice(1).entries()) {
        const before = requests[index].body;
        assert.match(lastEventId, /^[0-9a-f]+-\d+$/, `after a forced close of ${path}`);
        assert.ok(before.endsWith(`\nid:${lastEventId}\n\n`), `${lastEventId} after ${before.slice(-80)}`);
      }
    }
    assert.deepEqual(tab.complaints, []);
  });

  it('sends the id once, and not on the reconnect after that', async () => {
    await tab.page.evaluate((path) => {
      globalThis.source = new EventSource(path);
      globalThis.received = [];
      globalThis.source.onmessage = ({ data, lastEventId }) => globalThis.received.push({ data, lastEventId });
    }, RAW);
    const requests = () => proxy.requestsFor(RAW);
    await until(() => requests()[0]?.ended, 'the first stream is closed by force');
    await both.publish(SCORE_CHANNEL, 'MISSED');
    await until(() => requests()[1]?.body.includes('\nid:\n\n'), 'the id is cleared');
    // What the browser has not looked at yet when a stream is cut off, it throws away.
    await tab.page.waitForFunction(() => globalThis.received.length === 1);
    requests()[1].cut();
    await until(() => requests().length > 2, 'the browser comes back');
    const ids = requests().map((request) => request.lastEventId);
    assert.match(ids[1], /^[0-9a-f]+-\d+$/);
    assert.deepEqual([ids[0], ids[2]], [undefined, undefined]);

    await until(() => requests()[2].body.includes('retry:'), 'the third stream has begun');
    await both.publish(SCORE_CHANNEL, 'NEW');
    await tab.page.waitForFunction(() => globalThis.received.length >= 2);
    const received = await tab.page.evaluate(() => globalThis.received);
    assert.deepEqual(
      received.map(({ data }) => data),
      ['MISSED', 'NEW'],
    );
    assert.equal(received[1].lastEventId, '');
  });

  it('comes back after a drain, to another process, without the old one\'s messages', async () => {
    await tab.page.evaluate((path) => {
      globalThis.source = new EventSource(path);
      globalThis.received = [];
      globalThis.source.onmessage = ({ data }) => globalThis.received.push(data);
    }, RAW);
    const requests = () => proxy.requestsFor(RAW);
    await until(() => requests()[0]?.body.includes('retry:'), 'the stream has begun');
    await both.publish(SCORE_CHANNEL, 'BEFORE');
    await tab.page.waitForFunction(() => globalThis.received.length === 1);
    await both.stopStreamer();
    await both.runAgain();
    await until(() => requests().at(-1).body.includes('\nid:\n\n'), 'the browser forgets', 30_000);
    await both.publish(SCORE_CHANNEL, 'AFTER');
    await tab.page.waitForFunction(() => globalThis.received.length === 2);
    assert.deepEqual(await tab.page.evaluate(() => globalThis.received), ['BEFORE', 'AFTER']);
  });
});

/** Runs in the page: listens to three streams and keeps count. */
function listen({ eps, raw, details, tweet }) {
  const heard = { sums: {}, rawSums: {}, numbers: [], opens: [0, 0, 0] };
  globalThis.heard = heard;
  const add = (sums, id, count) => (sums[id] = (sums[id] ?? 0) + count);
  globalThis.sources = [eps, raw, details].map((path, index) => {
    const source = new EventSource(path);
    source.onopen = () => (heard.opens[index] += 1);
    return source;
  });
  const [ofEps, ofRaw, ofDetails] = globalThis.sources;
  ofEps.onmessage = ({ data }) => {
    for (const [id, count] of Object.entries(JSON.parse(data))) {
      add(heard.sums, id, count);
    }
  };
  ofRaw.onmessage = ({ data }) => add(heard.rawSums, data, 1);
  ofDetails.addEventListener(tweet, ({ data }) => heard.numbers.push(JSON.parse(data).number));
}
