// The admin page in a real browser: with the real program, and with documents that a test cannot make a server send,
// such as those of thousands of connections.

import assert from 'node:assert/strict';
import { WireReader, closeClients, fetchWhole, pause, until } from '../spec/clients.mjs';
import { Streamer } from '../spec/servers.mjs';
import { inBrowser } from './browser.mjs';
import { HOSTILE, cluster, status } from './documents.mjs';

inBrowser('the admin page', (tab) => {
  let streamer;
  before(async () => {
    streamer = await Streamer.start(['--demo']);
  });
  after(() => streamer?.stop());
  afterEach(closeClients);

  function subscribe(path, agent) {
    return WireReader.open(streamer.url(`/subscribe${path}`), { 'User-Agent': agent });
  }

  async function openPage(address = streamer.url('/admin/')) {
    await tab.page.goto(address);
    await tab.page.waitForFunction(() => document.querySelector('#state').dataset.state === 'live');
  }

  /** Has these documents take the place of the server's own; a function is asked each time. */
  async function answerWith(documents) {
    for (const [name, document] of Object.entries(documents)) {
      await tab.page.route(`**/admin/${name}.json`, (route) =>
        route.fulfill({ json: typeof document === 'function' ? document() : document }),
      );
    }
  }

  /** The texts of a table's rows. */
  function rowsOf(id) {
    return tab.page.$$eval(`#${id} tbody tr`, (rows) =>
      rows.map((row) => [...row.cells].map((cell) => cell.textContent)),
    );
  }

  const numberIn = (text) => Number(text.replaceAll(',', ''));

  async function subscribers() {
    return Object.fromEntries((await rowsOf('streams')).map(([name, count]) => [name, count]));
  }

  async function total(name) {
    const row = (await rowsOf('totals')).find(([title]) => title === name);
    return numberIn(row[1]);
  }

  /** Waits until the page has drawn a report that it asks for from now on. */
  async function refreshed(times = 1) {
    for (let count = 0; count < times; count += 1) {
      const response = await tab.page.waitForResponse(/status\.json/);
      await response.finished();
      await tab.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
    }
  }

  describe('of the real program', () => {
    it('fills its tables, and counts', async () => {
      await Promise.all([
        subscribe('/eps', 'one'),
        subscribe('/raw', 'two'),
        subscribe('/details/1F602', 'three'),
      ]);
      await openPage();
      const messages = await total('Messages in');
      await until(async () => (await total('Messages in')) > messages + 100, 'the totals rise');
      await until(async () => numberIn((await rowsOf('totals'))[0][2]) > 0, 'the last minute has figures');

      const expected = { raw: '1', eps: '1', details: '1', kiosk_interaction: '0', channels: '0', several: '0' };
      assert.deepEqual(await subscribers(), expected);
      const connections = await rowsOf('connections');
      const agents = Object.fromEntries(connections.map((cells) => [cells[0], cells[5]]));
      assert.deepEqual(agents, { '/eps': 'one', '/raw': 'two', '/details/1F602': 'three' });
      await until(async () => (await rowsOf('nodes')).length === 1, 'the node is in its cluster');
      assert.match(await tab.page.textContent('#process'), /Version\d+\.\d+\.\d+/);
      for (const chart of ['in', 'out']) {
        const words = await tab.page.getAttribute(`#chart-${chart} svg`, 'aria-label');
        assert.match(words, /: [\d,.]+ per second now; in the last five minutes between [\d,.]+ and [\d,.]+$/);
      }
      const lateness = await tab.page.getAttribute('#chart-late svg', 'aria-label');
      assert.match(lateness, /\d+ ticks, last \d+ s; p50 [\d.]+ ms, p99 [\d.]+ m?s, max [\d.]+ m?s$/);
      assert.deepEqual(tab.complaints, []);
      tab.assertNothingIsFromElsewhere(streamer.url('/'));
    });

    it('shows who listens to which channels', async () => {
      const channels = await Streamer.start([], { REDIS_URL: 'none', CHANNELS: '*', PUBLISH_KEY: 'key' });
      const paths = {
        '/?channels=a,b&uuid=7': '/channels/a,/channels/b',
        '/?channels=a': '/channels/a',
        '/subscribe/channels?channels=%D0%BC%D0%B8%D1%80': '/channels/мир',
        '/subscribe/channels/news?event=channel': '/channels/news',
        '/subscribe?ns=/eps': '/eps',
        '/subscribe?ns=/eps&ns=/channels/news': '/eps,/channels/news',
      };
      for (const path of Object.keys(paths)) {
        await WireReader.open(channels.url(path));
      }
      const body = new URLSearchParams({ key: 'key', channel: 'a', message: 'hello' });
      assert.equal((await fetch(channels.url('/publish'), { method: 'POST', body })).status, 200);
      await openPage(channels.url('/admin/'));
      await until(async () => (await rowsOf('connections')).length === 6, 'all are listed');
      const namespaces = (await rowsOf('connections')).map((cells) => cells[0]);
      assert.deepEqual(namespaces.sort(), Object.values(paths).sort());
      const { eps, channels: alone, several } = await subscribers();
      assert.deepEqual({ eps, alone, several }, { eps: '1', alone: '4', several: '1' });
      assert.equal(await total('Publications'), 1);
      assert.match(await tab.page.textContent('#process'), /Channels4Connections/);
      assert.deepEqual(tab.complaints, []);
      closeClients();
      await channels.stop();
    });

    it('shows what clients send as text', async () => {
      // The other hostile strings cannot be sent in a header.
      const agents = HOSTILE.filter((agent) => /^[\x20-\x7e]+$/.test(agent) && agent.length < 300);
      assert.ok(agents.length >= 4);
      await Promise.all(agents.map((agent) => subscribe('/details/1F602', agent)));
      await subscribe('/details/%3Cimg%20src=x%20onerror=alert(1)%3E', 'plain');
      await openPage();
      await until(async () => (await rowsOf('connections')).length === agents.length + 1, 'all are listed');
      const shown = (await rowsOf('connections')).map((cells) => cells[5]);
      assert.deepEqual(shown.sort(), [...agents, 'plain'].sort());
      await refreshed(2);
      assert.equal(await tab.page.$('main :is(img, script, iframe, a)'), null);
      assert.deepEqual(tab.complaints, []);
      tab.assertNothingIsFromElsewhere(streamer.url('/'));
    });

    it('does not run what somebody brings into it', async () => {
      await openPage();
      const outcome = await tab.page.evaluate(() => {
        const attempt = (act) => {
          try {
            act();
            return 'done';
          } catch (error) {
            return error.name;
          }
        };
        const script = document.createElement('script');
        const markup = attempt(
          () => (document.body.innerHTML = '<img src=x onerror="globalThis.isOwned = true">'),
        );
        const text = attempt(() => {
          script.append('globalThis.isOwned = true');
          document.body.append(script);
        });
        const code = attempt(() => setTimeout('globalThis.isOwned = true'));
        return { markup, text, code, isOwned: Boolean(globalThis.isOwned) };
      });
      assert.deepEqual(
        { ...outcome, text: '' },
        { markup: 'TypeError', text: '', code: 'TypeError', isOwned: false },
      );
    });

    it('opens with the admin token as the password of its address', async () => {
      const guarded = await Streamer.start(['--demo', '--admin-token', 'open-sesame']);
      const address = guarded.url('/admin/');
      assert.equal((await fetchWhole(address)).status, 401);
      await openPage(address.replace('//', '//admin:open-sesame@'));
      await until(async () => (await rowsOf('nodes')).length === 1, 'the cluster is known');
      assert.deepEqual(tab.complaints, []);
      await guarded.stop();
    });

    it('marks figures as old while there is no answer, and recovers', async () => {
      await subscribe('/eps', 'before');
      await openPage();
      await until(async () => (await total('Messages in')) > 500, 'there is something to lose');
      const before = await total('Messages in');
      await streamer.crash();
      await tab.page.waitForFunction(() => document.documentElement.classList.contains('old'));
      assert.match(await tab.page.textContent('#state'), /^no answer since \d+:\d\d:\d\d/);
      assert.ok((await total('Messages in')) >= before, 'the last figures stay');
      assert.equal((await rowsOf('connections')).length, 1);

      await streamer.runAgain();
      await subscribe('/eps', 'after');
      await tab.page.waitForFunction(() => !document.documentElement.classList.contains('old'));
      assert.equal(await tab.page.textContent('#state'), 'live');
      await until(
        async () => (await rowsOf('connections'))[0]?.[5] === 'after',
        'the new connection is listed',
      );
      assert.ok((await total('Messages in')) < before, 'the new process counts for itself');
      await refreshed(2);
      const words = await tab.page.getAttribute('#chart-in svg', 'aria-label');
      assert.doesNotMatch(words, /-\d/, 'no rate is less than nothing');
      // The browser itself reports that it could not connect.
      const others = tab.complaints.filter((complaint) => !/Failed to load resource/.test(complaint));
      assert.deepEqual(others, []);
    });

    it('asks for nothing while nobody can see it', async () => {
      await openPage();
      const hide = (isHidden) => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => isHidden });
        document.dispatchEvent(new Event('visibilitychange'));
      };
      await tab.page.evaluate(hide, true);
      // A request under way may still complete.
      await pause(500);
      const before = tab.requests.length;
      await pause(6_000);
      assert.equal(tab.requests.length, before);
      await tab.page.evaluate(hide, false);
      await until(() => tab.requests.length >= before + 2, 'it asks again at once', 1_000);
    });
  });

  describe('with five thousand connections', () => {
    let seconds;
    beforeEach(async () => {
      seconds = 3_600;
      await answerWith({
        status: () => status({ seconds: (seconds += 2) }),
        cluster: () => cluster({ seconds }),
      });
    });

    const column = async (index) => (await rowsOf('connections')).map((cells) => cells[index]);
    const isSorted = (values, isBefore) =>
      values.every((value, index) => index === 0 || !isBefore(value, values[index - 1]));
    const press = (name) => tab.page.getByRole('button', { name, exact: true }).click();
    const sortOf = (name) =>
      tab.page.getByRole('columnheader', { name, exact: true }).getAttribute('aria-sort');
    const range = () => tab.page.textContent('#range');

    it('sorts, filters and turns pages', async () => {
      await openPage();
      assert.equal((await rowsOf('connections')).length, 100);
      assert.equal(await range(), '1–100 of 5,000');
      assert.equal(await sortOf('Age'), 'descending');
      await press('Behind');
      assert.equal(await sortOf('Behind'), 'descending');
      assert.equal(await sortOf('Age'), null);
      const behind = (await column(2)).map(numberIn);
      assert.ok(behind[0] > 300 && isSorted(behind, (later, earlier) => later > earlier), String(behind));
      await press('Behind');
      assert.equal(await sortOf('Behind'), 'ascending');
      assert.equal((await column(2))[0], '0');
      await press('Address');
      const key = (address) =>
        address
          .split('.')
          .map((part) => part.padStart(3, '0'))
          .join('.');
      const isLess = (a, b) => key(a) < key(b);
      assert.ok(
        isSorted(
          (await column(4)).filter((address) => address.includes('.')),
          isLess,
        ),
      );
      await press('Next page');
      assert.equal(await range(), '101–200 of 5,000');

      await tab.page.getByLabel('Filter by namespace').fill('DETAILS/1F1FA');
      assert.match(await range(), /^1–100 of [\d,]+ matching$/);
      assert.deepEqual(new Set(await column(0)), new Set(['/details/1F1FA-1F1F8']));
      await tab.page.getByLabel('Filter by address or user agent').fill('2001:db8');
      assert.ok((await column(4)).every((address) => address.startsWith('2001:db8::')));
      await tab.page.getByLabel('Filter by namespace').fill('/nowhere');
      assert.equal(await range(), 'none matching');
      assert.deepEqual(await rowsOf('connections'), []);
      assert.deepEqual(tab.complaints, []);
    });

    it('leaves alone across refreshes what somebody is doing', async () => {
      await openPage();
      await tab.page.getByLabel('Filter by namespace').fill('details');
      await press('Sent');
      await press('Next page');
      await tab.page.getByLabel('Filter by address or user agent').focus();
      const selected = await tab.page.evaluate(() => {
        scrollTo(0, 400);
        const table = document.querySelector('#connections-scroll');
        table.scrollTop = 321;
        const cell = table.querySelector('tbody tr:nth-child(20) td:nth-child(2)');
        getSelection().selectAllChildren(cell.parentElement);
        return String(getSelection());
      });
      const state = () =>
        tab.page.evaluate(() => ({
          selected: String(getSelection()),
          scrolled: [scrollY, document.querySelector('#connections-scroll').scrollTop],
          filter: document.querySelector('#filter').value,
          sorted: document.querySelector('[aria-sort]').textContent,
          range: document.querySelector('#range').textContent,
        }));
      const before = await state();
      assert.equal(before.selected, selected);
      assert.deepEqual(before.scrolled, [400, 321]);
      await refreshed(2);
      assert.deepEqual(await state(), before);
      assert.match(await tab.page.textContent('#connections-note'), /not updated while text is selected/);

      const rows = await rowsOf('connections');
      await tab.page.evaluate(() => getSelection().removeAllRanges());
      await until(async () => (await rowsOf('connections'))[0][1] !== rows[0][1], 'the table goes on');
      assert.deepEqual({ ...(await state()), selected }, before);
    });

    it('stays smooth', async function () {
      await openPage();
      await refreshed();
      const tasks = await tab.tasksDuring(() => refreshed(4));
      // Reading a document takes most of it, some 30 ms.
      assert.ok(tasks[0] < 75, `the longest tasks took ${tasks.slice(0, 9)} ms`);
      if (!(await tab.isSmooth({ median: 17.5, p95: 35 }))) {
        this.skip();
      }
    });

    it('spells out what cannot be seen, and cuts off what is too long', async () => {
      await openPage();
      await tab.page.getByLabel('Filter by address or user agent').fill('\u202E');
      assert.deepEqual(
        new Set(await column(5)),
        new Set(['\\u{202e}txt.exe\\u{202c} \\u{2067}right to left\\u{2069}']),
      );
      await tab.page.getByLabel('Filter by address or user agent').fill('a very long name');
      const [longest] = await column(5);
      assert.equal(longest.length, 301);
      assert.ok(longest.endsWith('…'));
      assert.deepEqual(tab.complaints, []);
    });

    it('shows the nodes by name, whatever they say of themselves', async () => {
      await openPage();
      await until(async () => (await rowsOf('nodes')).length === 5, 'the nodes are listed');
      assert.deepEqual(
        await rowsOf('nodes').then((rows) =>
          rows.map(([name, environment, version, count]) => [name, environment, version, count]),
        ),
        [
          ['<b onclick=alert(1)>\\u{202e}bold</b>', '–', '–', '–'],
          ['node-production-web.4', 'production', '–', '2'],
          ['rust-production-web.1', 'production', '0.1.0', '1,000'],
          ['rust-production-web.2', 'production', '0.1.0', '2,000'],
          ['rust-production-web.3', 'production', '0.1.0', '3,000'],
        ],
      );
      const rates = async () => (await rowsOf('nodes')).slice(2).map((cells) => cells[4]);
      await until(async () => (await rates()).every((rate) => numberIn(rate) > 100), 'rates are known');
      assert.equal(
        await tab.page.textContent('#nodes-note'),
        '5 reporting, 1 stale, 2 malformed',
      );
      assert.deepEqual(tab.complaints, []);
    });
  });

  describe('and documents of other servers', () => {
    for (const [name, document] of [
      ['an empty one', {}],
      ['one without figures', { node: 'node-production-web.1', status: 'OK', connections: [{ age: 3 }, null] }],
      [
        'one with figures of other kinds',
        {
          node: 7,
          reported_at: 'now',
          stats: { uptime_ms: 'x', source: 1, streams: { eps: null }, closes: 3 },
          connections: {},
        },
      ],
      [
        'one with histograms of other sizes',
        {
          stats: {
            uptime_ms: 5,
            tick_lateness: { counts: [1, 2] },
            delivery: { eps: { bounds_us: [1] } },
            streams: { eps: 1 },
          },
        },
      ],
    ]) {
      it(`bears ${name}`, async () => {
        await answerWith({ status: document, cluster: { nodes: [document, 3] } });
        await openPage();
        await refreshed(2);
        assert.equal(await tab.page.textContent('#state'), 'live');
        assert.doesNotMatch(await tab.page.innerText('body'), /NaN|undefined|null|\[object|Invalid/);
        assert.deepEqual(tab.complaints, []);
      });
    }

    it('says why the cluster is unavailable', async () => {
      await tab.page.route('**/admin/cluster.json', (route) =>
        route.fulfill({ status: 503, json: { status: 'Service Unavailable', error: 'redis does not answer' } }),
      );
      await openPage();
      await until(
        async () => (await tab.page.textContent('#nodes-note')) === 'unavailable: redis does not answer',
        'the reason is shown',
      );
      assert.equal(await tab.page.textContent('#state'), 'live');
    });
  });
});
