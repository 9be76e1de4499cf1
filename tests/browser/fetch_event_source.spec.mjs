// What a page sees that reads the streams with @microsoft/fetch-event-source instead of the browser's own
// EventSource: it calls its handler at each blank line, so a handler that parses what comes as JSON fails at any
// blank line that ends no event, and the page then connects again and again.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { pause } from '../spec/clients.mjs';
import { RedisAndStreamer, SCORE_CHANNEL, tweetChannel } from '../spec/servers.mjs';
import { inBrowser } from './browser.mjs';
import { RecordingProxy } from './proxy.mjs';

const EPS = '/subscribe/eps';
const DETAILS = '/subscribe/details/2665';
const MODULES = fileURLToPath(new URL('node_modules/@microsoft/fetch-event-source/lib/esm', import.meta.url));

inBrowser('@microsoft/fetch-event-source', (tab) => {
  for (const [title, environment] of [
    ['a comment', { KEEPALIVE_SEC: '1' }],
    ['retry', { KEEPALIVE_SEC: '1', SSE_RECONNECT_MS: '300' }],
  ]) {
    it(`gets each event, and nothing else, of a stream that begins with ${title}`, async () => {
      const both = await RedisAndStreamer.start(environment);
      const proxy = await RecordingProxy.start(both.url(''));
      await tab.page.goto(proxy.url('/blank'));
      await load(tab.page);
      await tab.page.evaluate(listen, [EPS, DETAILS]);
      await tab.page.waitForFunction(() => globalThis.heard.opens === 2);
      // Longer than it takes until a comment comes: before the first event, and between the two.
      for (const number of [1, 2]) {
        await pause(1_500);
        await both.publish(SCORE_CHANNEL, '2665');
        await both.publish(tweetChannel('2665'), JSON.stringify({ number }));
        await tab.page.waitForFunction((count) => globalThis.heard.messages.length === count, 2 * number);
      }
      await pause(1_500);
      const { messages, errors, opens } = await tab.page.evaluate(() => globalThis.heard);
      const of = (path) => messages.filter((message) => message.path === path).map(({ event, data }) => [event, data]);
      assert.deepEqual(errors, []);
      assert.deepEqual(of(EPS), [['', { 2665: 1 }], ['', { 2665: 1 }]]);
      assert.deepEqual(of(DETAILS), [1, 2].map((number) => [tweetChannel('2665'), { number }]));
      assert.equal(opens, 2);
      for (const path of [EPS, DETAILS]) {
        const requests = proxy.requestsFor(path);
        assert.equal(requests.length, 1);
        // There were comments that could have been taken for messages.
        assert.ok(requests[0].body.split('\n').filter((line) => line === ':').length >= 2, requests[0].body);
      }
      assert.deepEqual(tab.complaints, []);
      await tab.page.close();
      await proxy.stop();
      await both.stop();
    });
  }
});

/** Loads the package into the page, which the server under test does not serve. */
async function load(page) {
  const pattern = '**/fetch-event-source/*';
  await page.route(pattern, (route) => {
    const name = new URL(route.request().url()).pathname.split('/').at(-1);
    return route.fulfill({ path: `${MODULES}/${name}.js`, contentType: 'text/javascript' });
  });
  await page.evaluate(async () => {
    globalThis.client = await import('/fetch-event-source/index');
  });
  await page.unroute(pattern);
}

/** Runs in the page: writes down what the handler of each stream gets. */
function listen(paths) {
  globalThis.heard = { opens: 0, messages: [], errors: [] };
  for (const path of paths) {
    globalThis.client.fetchEventSource(path, {
      openWhenHidden: true,
      onopen: async () => {
        globalThis.heard.opens += 1;
      },
      onmessage: ({ event, data }) => {
        globalThis.heard.messages.push({ path, event, data: JSON.parse(data) });
      },
      onerror: (error) => {
        globalThis.heard.errors.push(`${path}: ${error}`);
      },
    });
  }
}
