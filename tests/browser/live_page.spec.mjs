// The live page in a real browser: its counts, its frame rate, and its cleanups.

import assert from 'node:assert/strict';
import { fetchWhole, pause, until } from '../spec/clients.mjs';
import { RedisAndStreamer, SCORE_CHANNEL, Streamer, tweetChannel } from '../spec/servers.mjs';
import { inBrowser } from './browser.mjs';
import { RecordingProxy } from './proxy.mjs';

inBrowser('the live page', (tab) => {
  /** What the page shows, by the emoji's names. */
  function shown() {
    return tab.page.$$eval('.cell', (cells) =>
      Object.fromEntries(
        cells.map((cell) => [cell.title, Number(cell.querySelector('.count').textContent.replaceAll(',', ''))]),
      ),
    );
  }

  async function total() {
    return Object.values(await shown()).reduce((sum, count) => sum + count, 0);
  }

  describe('of the demo', () => {
    let streamer;
    let proxy;
    before(async () => {
      streamer = await Streamer.start(['--demo', '--sse-force-refresh', '--verbose']);
      // Otherwise the browser's closed connections would have the effect of the beacon.
      proxy = await RecordingProxy.start(streamer.url(''), { hidesDepartures: true });
    });
    after(async () => {
      await proxy?.stop();
      await streamer?.stop();
    });

    async function connections() {
      const { body } = await fetchWhole(streamer.url('/admin/status.json'));
      return JSON.parse(body).connections;
    }

    it('loads without a complaint, counts, and closes its streams when it is left', async () => {
      await tab.page.goto(proxy.url('/'));
      const before = await total();
      await until(async () => (await total()) > before + 100, 'the counts rise');
      // The second stream has the tweets of the first emoji.
      await tab.page.click('.cell');
      await tab.page.waitForSelector('#tweets > li');
      const namespaces = (await connections()).map((connection) => connection.namespace).sort();
      assert.equal(namespaces.length, 2, String(namespaces));
      assert.match(namespaces[0], /^\/details\/[0-9A-F-]+$/);
      assert.equal(namespaces[1], '/eps');
      assert.deepEqual(tab.complaints, []);

      await tab.page.goto('about:blank');
      await until(async () => (await connections()).length === 0, 'both streams are closed');
      const beacons = proxy.requests.filter(({ method }) => method === 'POST');
      assert.deepEqual(beacons.map(({ path }) => path.replace(/\/details\/.*/, '/details')).sort(), [
        '/subscribe/cleanup/details',
        '/subscribe/cleanup/scores',
      ]);
      assert.deepEqual(tab.complaints, []);
    });
  });

  describe('at 400 updates a second', () => {
    let streamer;
    before(async () => {
      streamer = await Streamer.start(['--demo', '--demo-rate', '400']);
    });
    after(() => streamer?.stop());

    for (const [name, viewport] of Object.entries({
      desktop: { width: 1280, height: 800 },
      phone: { width: 390, height: 844 },
    })) {
      it(`keeps up 60 frames a second on a ${name}`, async function () {
        await tab.open({ viewport });
        await tab.page.goto(streamer.url('/'));
        const before = await total();
        await until(async () => (await total()) > before + 400, 'the counts rise');
        const tasks = await tab.tasksDuring(() => pause(3_000));
        const used = tasks.reduce((sum, task) => sum + task, 0);
        assert.ok(used < 2_000, `the page was at work for ${Math.round(used)} ms of 3 s`);
        if (!(await tab.isSmooth({ median: 17.5, p95: 35 }))) {
          this.skip();
        }
        assert.deepEqual(tab.complaints, []);
      });
    }
  });

  describe('with Redis', () => {
    let both;
    let proxy;
    before(async () => {
      both = await RedisAndStreamer.start({
        ENABLE_DEMO_PAGE: 'true',
        SSE_FORCE_REFRESH: 'true',
        SSE_SCORE_FORCECLOSE_SEC: '2',
        SSE_DETAIL_FORCECLOSE_SEC: '2',
      });
      proxy = await RecordingProxy.start(both.url(''));
    });
    after(async () => {
      await proxy?.stop();
      await both?.stop();
    });

    const isLive = () =>
      tab.page.waitForFunction(() => document.querySelector('#state').textContent === 'live');
    /** IDs and the names that the page gives them; the last one is no emoji that has a name. */
    const EMOJI = [
      ['1F602', 'face with tears of joy'],
      ['2665', 'black heart suit'],
      ['1F9EA-200D-1F52C', 'U+1F9EA U+200D U+1F52C'],
    ];

    it('begins with nothing, and takes emoji in as they are used', async () => {
      // Until Redis can be queried, the page starts with all emoji that have a name.
      await until(async () => {
        await tab.page.goto(proxy.url('/'));
        return tab.page.isVisible('#empty');
      }, 'the page begins without emoji');
      assert.doesNotMatch(await tab.page.innerText('main'), /demo|random/);
      await isLive();
      for (const id of [
        '<img src=x onerror=alert(1)>',
        'ZZ',
        '',
        '110000',
        'D800',
        '-',
        '2665',
        '1F9EA-200D-1F52C',
        '2665',
      ]) {
        await both.publish(SCORE_CHANNEL, id);
      }
      await until(async () => (await total()) === 3, 'what is an emoji is counted');
      assert.deepEqual(await shown(), { 'U+2665': 2, 'U+1F9EA U+200D U+1F52C': 1 });
      assert.equal(await tab.page.isVisible('#empty'), false);

      await tab.page.click('.cell >> nth=1');
      await until(
        () => proxy.requestsFor('/subscribe/details/1F9EA-200D-1F52C').length > 0,
        'its tweets are asked for',
      );
      const tweet = {
        id: '1',
        text: '<b>\u{1F9EA}</b> \u202Etxet',
        screen_name: 'spec',
        name: '<i>The Spec</i>',
      };
      await until(async () => {
        await both.publish(tweetChannel('1F9EA-200D-1F52C'), JSON.stringify(tweet));
        return (await tab.page.$('#tweets > li')) !== null;
      }, 'a tweet is shown');
      assert.equal(await tab.page.textContent('#tweets > li .text'), tweet.text);
      await tab.page.keyboard.press('Escape');
      await tab.page.keyboard.press('ArrowLeft');
      assert.equal(await tab.page.evaluate(() => document.activeElement.title), 'U+2665');
      assert.deepEqual(tab.complaints, []);
      tab.assertNothingIsFromElsewhere(proxy.url('/'));
    });

    it('counts on from the scores, nothing twice across reconnects', async () => {
      const base = { '1F602': 4_000_000, 2665: 1_000, '1F9EA-200D-1F52C': 7 };
      for (const [id, score] of Object.entries(base)) {
        await both.redis.command('ZADD', 'emojitrack_score', String(score), id);
      }
      const expected = Object.fromEntries(EMOJI.map(([id, name]) => [name, base[id]]));
      await until(async () => {
        await tab.page.goto(proxy.url('/'));
        return Object.keys(await shown()).length === EMOJI.length;
      }, 'the page begins with the scores');
      assert.deepEqual(await shown(), expected);
      await isLive();
      const before = proxy.requestsFor('/subscribe/eps').length;
      let published = 0;
      for (const end = performance.now() + 12_000; performance.now() < end; published += 1) {
        const [id, name] = EMOJI[((published * (published + 1)) / 2) % EMOJI.length];
        await both.publish(SCORE_CHANNEL, id);
        expected[name] += 1;
        await pause(4);
      }
      await until(
        async () => (await total()) >= Object.values(expected).reduce((sum, count) => sum + count),
        'all is counted',
      );
      // Longer than a lifetime and a pause, so that a duplicate would have time to arrive.
      await pause(3_000);
      assert.deepEqual(await shown(), expected);
      const reconnects = proxy.requestsFor('/subscribe/eps').length - before;
      assert.ok(reconnects >= 5, `${reconnects} reconnects`);
      assert.deepEqual(tab.complaints, []);
    });
  });
});
