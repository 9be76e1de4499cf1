// Channels as pages of cyclone-sse use them: an EventSource, or a script in its place, behind nginx. Whatever is
// cut off, each message comes once and in order, or the page is told that some cannot come any more.

import assert from 'node:assert/strict';
import { pause, until } from '../spec/clients.mjs';
import { RedisAndStreamer, Streamer } from '../spec/servers.mjs';
import { inBrowser } from './browser.mjs';
import { Cutter } from './cutter.mjs';
import { Nginx } from './nginx.mjs';
import { RecordingProxy } from './proxy.mjs';

const KEY = 'open-sesame';
const ENVIRONMENT = {
  CHANNELS: 'a,b,news.*',
  CHANNELS_PATTERNS: 'true',
  PUBLISH_KEY: KEY,
  TRUST_PROXY: '1',
  SSE_RECONNECT_MS: '100',
};

/** A backend that publishes by Redis. */
class WithRedis {
  static async start(environment) {
    const broker = new WithRedis();
    broker.both = await RedisAndStreamer.start(environment);
    return broker;
  }

  url(path) {
    return this.both.url(path);
  }

  async publish(channel, message) {
    await this.both.redis.command('PUBLISH', channel, message);
  }

  async listens(channel) {
    const script = `
      for _, name in ipairs(redis.call('PUBSUB', 'CHANNELS')) do
        if name == ARGV[1] then return 1 end
      end
      return 0`;
    return (await this.both.redis.command('EVAL', script, '0', channel)) === 1;
  }

  async restart() {
    await this.both.crash();
    await this.both.runAgain();
  }

  stop() {
    return this.both.stop();
  }
}

/** A backend that has nothing but the server. */
class WithoutBroker {
  static async start(environment) {
    const broker = new WithoutBroker();
    broker.streamer = await Streamer.start([], { REDIS_URL: 'none', ...environment });
    return broker;
  }

  url(path) {
    return this.streamer.url(path);
  }

  async publish(channel, message) {
    const body = new URLSearchParams({ key: KEY, channel, message });
    const response = await fetch(this.url('/publish'), { method: 'POST', body });
    assert.equal(response.status, 200, await response.text());
  }

  /** Whether the server would keep messages; it does not say of which channels. */
  async listens() {
    const response = await fetch(this.url('/admin/status.json'));
    return (await response.json()).stats.channels > 0;
  }

  async restart() {
    await this.streamer.crash();
    await this.streamer.runAgain();
  }

  stop() {
    return this.streamer.stop();
  }
}

/** The server, with nginx in front of it and what can be cut off in between. */
class Site {
  static async start(Broker, environment = {}) {
    const site = new Site();
    site.broker = await Broker.start({ ...ENVIRONMENT, ...environment });
    site.cutter = await Cutter.start(site.broker.url('/'));
    site.nginx = await Nginx.start(site.cutter.url(''));
    return site;
  }

  url(path) {
    return this.nginx.url(path);
  }

  async stop() {
    this.cutter.cut();
    await this.nginx.stop();
    await this.cutter.stop();
    await this.broker.stop();
  }
}

for (const Broker of [WithRedis, WithoutBroker]) {
  inBrowser(`channels ${Broker === WithRedis ? 'of Redis' : 'without a broker'}`, (tab) => {
    let site;
    let published;
    onSiteOfItsOwn();
    beforeEach(() => (published = []));

    /** Has the tests of a suite use a server with these settings. */
    function onSiteOfItsOwn(environment) {
      let usual;
      let own;
      before(async () => {
        usual = site;
        site = own = await Site.start(Broker, environment);
      });
      after(async () => {
        site = usual;
        await own?.stop();
      });
    }

    /** Opens a page that listens, and waits until the server does. */
    async function listen(query, names = []) {
      await tab.page.goto(site.url('/blank'));
      const url = `/sse/?${query}&uuid=${Math.random()}`;
      await tab.page.evaluate(listenInPage, { url, names });
      await opened(1);
      await until(() => site.broker.listens('a'), 'the server listens to the channel');
    }

    function opened(times) {
      return tab.page.waitForFunction((count) => globalThis.heard.opens >= count, times, { timeout: 10_000 });
    }

    /** Publishes so many messages, one after another, to both channels. */
    async function publish(count, pauseMs = 0) {
      for (const end = published.length + count; published.length < end;) {
        const message = `message ${published.length}`;
        published.push(message);
        await site.broker.publish(published.length % 3 ? 'a' : 'b', message);
        if (pauseMs > 0) await pause(pauseMs);
      }
    }

    /**
     * Publishes a last message, and returns what the page has heard by then. What would come twice, or in
     * another order, comes before it.
     */
    async function heardAll(timeout = 10_000) {
      published.push('the last');
      await site.broker.publish('a', 'the last');
      const isThere = () => globalThis.heard.messages.at(-1) === 'the last';
      await tab.page.waitForFunction(isThere, null, { timeout });
      return tab.page.evaluate(() => globalThis.heard);
    }

    /** Has the page publish, and returns the status and the answer. */
    function publishInPage(base, fields, headers = {}) {
      const publishInPage = async ([url, fields, headers]) => {
        const body = new URLSearchParams(fields);
        const response = await fetch(url, { method: 'POST', headers, body });
        return [response.status, await response.json()];
      };
      return tab.page.evaluate(publishInPage, [`${base}/publish`, fields, headers]);
    }

    it('bring a page each message once and in order, whoever publishes', async () => {
      const elsewhere = await RecordingProxy.start(site.broker.url(''));
      await listen('channels=a,b');
      await publish(50);
      const message = (text) => {
        published.push(text);
        return text;
      };
      const own = { key: KEY, channel: 'a', message: message('one line\nand another ☃') };
      assert.deepEqual(await publishInPage('', own), [200, { status: 'ok' }]);
      const foreign = { channel: 'b', message: message(' from & for = elsewhere + ') };
      const bearer = { Authorization: `Bearer ${KEY}` };
      assert.deepEqual(await publishInPage(elsewhere.url(''), foreign, bearer), [200, { status: 'ok' }]);
      assert.deepEqual(
        elsewhere.requestsFor('/publish').map(({ method }) => method),
        ['OPTIONS', 'POST'],
      );
      await publish(50);
      assert.deepEqual(tab.complaints, []);
      // The refusal can be read, too.
      const [status] = await publishInPage(elsewhere.url(''), foreign, { Authorization: 'Bearer another' });
      assert.equal(status, 401);

      const heard = await heardAll();
      assert.deepEqual(heard.messages, published);
      assert.deepEqual({ opens: heard.opens, gaps: heard.gaps }, { opens: 1, gaps: [] });
      await elsewhere.stop();
    });

    it('bring them to a page of another origin, also when it comes back', async () => {
      const elsewhere = await RecordingProxy.start(site.broker.url(''));
      await tab.page.goto(site.url('/blank'));
      await tab.page.evaluate(listenInPage, { url: elsewhere.url('/?channels=a&channels=b'), names: [] });
      await opened(1);
      await until(() => site.broker.listens('a'), 'the server listens to the channel');
      await publish(20);
      elsewhere.requests[0].cut();
      await publish(20);
      await opened(2);
      const heard = await heardAll();
      assert.deepEqual(heard.messages, published);
      assert.deepEqual(heard.gaps, []);
      await elsewhere.stop();
    });

    it('name themselves to a page that asks for that', async () => {
      await listen('channels=a,news.*&event=channel', ['a', 'news.sport', 'news.weather']);
      const named = [];
      for (let number = 0; number < 60; number += 1) {
        const channel = ['a', 'news.sport', 'news.weather'][number % 3];
        named.push([channel, `message ${number}`]);
        if (number === 30) site.cutter.hold();
        await site.broker.publish(channel, `message ${number}`);
        if (number === 40) site.cutter.release();
      }
      await site.broker.publish('b', 'nobody has asked for this');
      const isThere = (count) => globalThis.heard.named.length >= count;
      await tab.page.waitForFunction(isThere, named.length);
      const heard = await tab.page.evaluate(() => globalThis.heard);
      assert.deepEqual(heard.named, named);
      assert.deepEqual([heard.messages, heard.gaps], [[], []]);
    });

    it('bring what was missed when the connection was cut off, and nothing twice', async () => {
      await listen('channels=a,b');
      for (let round = 0; round < 6; round += 1) {
        await publish(40, 2);
        const how = { resets: round % 2 === 0 };
        // What is on its way is lost; in half of the rounds the browser stays away for a while as well.
        if (round % 3 === 0) site.cutter.cut(how);
        else site.cutter.hold(how);
        await publish(40, 2);
        if (round % 3 !== 0) site.cutter.release();
        await opened(round + 2);
      }
      const heard = await heardAll();
      assert.deepEqual(heard.messages, published);
      assert.deepEqual(heard.gaps, []);
      assert.equal(heard.opens, 7);
    });

    it('say once that messages are missing, where the server was started anew', async () => {
      await listen('channels=a,b');
      await publish(5);
      await tab.page.waitForFunction(() => globalThis.heard.messages.length === 5);
      site.cutter.hold();
      await site.broker.restart();
      site.cutter.release();
      await opened(2);
      await until(() => site.broker.listens('a'), 'the new server listens to the channel');
      await publish(5);
      await tab.page.waitForFunction(() => globalThis.heard.messages.length === 10);
      // From now on it has an id of the new server.
      site.cutter.hold();
      await publish(5);
      site.cutter.release();
      const heard = await heardAll();
      assert.deepEqual(heard.gaps, [{ data: 'null', behind: 5 }]);
      assert.deepEqual(heard.messages, published);
    });

    describe('that are not kept for long', () => {
      onSiteOfItsOwn({ REPLAY_SEC: '1' });

      it('say so once, too, where the page was away for too long', async () => {
        await listen('channels=a,b');
        await publish(5);
        await tab.page.waitForFunction(() => globalThis.heard.messages.length === 5);
        site.cutter.hold();
        await until(async () => !(await site.broker.listens('a')), 'the server does not listen any more');
        await site.broker.publish('a', 'nobody hears this');
        site.cutter.release();
        await opened(2);
        await until(() => site.broker.listens('a'), 'the server listens again');
        await publish(5);
        const heard = await heardAll();
        assert.deepEqual(heard.gaps, [{ data: 'null', behind: 5 }]);
        assert.deepEqual(heard.messages, published);
      });
    });

    describe('to a script in the place of an EventSource', () => {
      const COUNT = 400;
      onSiteOfItsOwn({ KEEPALIVE_SEC: '1' });
      beforeEach(() => tab.page.addInitScript(polyfill));

      it('bring each message once, a poll at a time', async () => {
        await listen('channels=a,b');
        await emptyPolls();
        await firstMessage();
        await publish(COUNT / 2, 5);
        site.cutter.hold();
        await publish(COUNT / 4, 5);
        site.cutter.release();
        await publish(COUNT / 4, 5);
        const heard = await heardAll(30_000);
        assert.deepEqual(heard.messages, published);
        assert.deepEqual(heard.gaps, []);
        const { withMessages } = await tab.page.evaluate(() => globalThis.polls);
        assert.equal(withMessages, published.length, 'a poll brings one message');
      });

      it('bring each message once to a page of another origin', async () => {
        const elsewhere = await RecordingProxy.start(site.broker.url(''));
        await tab.page.goto(site.url('/blank'));
        await tab.page.evaluate(listenInPage, { url: elsewhere.url('/?channels=a,b'), names: [] });
        await emptyPolls();
        await firstMessage();
        await publish(COUNT / 2, 5);
        const heard = await heardAll(30_000);
        assert.deepEqual(heard.messages, published);
        assert.ok(elsewhere.requests.some(({ method }) => method === 'OPTIONS'));
        assert.deepEqual(tab.complaints, []);
        await elsewhere.stop();
      });

      it('say once that messages are missing', async () => {
        await listen('channels=a,b');
        await firstMessage();
        site.cutter.hold();
        await site.broker.restart();
        site.cutter.release();
        await tab.page.waitForFunction(() => globalThis.heard.gaps.length > 0);
        // It has an id of the new server with that: nothing is missing from here on.
        await publish(20);
        const heard = await heardAll();
        assert.deepEqual(heard.gaps, [{ data: 'null', behind: 1 }]);
        assert.deepEqual(heard.messages, published);
      });

      /** A poll without news is empty at last, and the next one follows. */
      async function emptyPolls() {
        await tab.page.waitForFunction(() => globalThis.polls.empty >= 2, null, { timeout: 10_000 });
      }

      /** Brings the page its first id: until it has one, what comes between two polls is not for it. */
      async function firstMessage() {
        await until(async () => {
          await site.broker.publish('a', 'the first');
          const isThere = () => globalThis.heard.messages.length > 0;
          return tab.page.waitForFunction(isThere, null, { timeout: 2_000 }).catch(() => false);
        }, 'a poll brings the first message');
        published.push('the first');
      }
    });
  });
}

/** Runs in the page: listens, and writes down what is heard. */
function listenInPage({ url, names }) {
  const heard = { opens: 0, messages: [], named: [], gaps: [] };
  globalThis.heard = heard;
  const source = new EventSource(url);
  globalThis.source = source;
  source.onopen = () => (heard.opens += 1);
  source.onmessage = ({ data }) => heard.messages.push(data);
  source.addEventListener('gap', ({ data }) => heard.gaps.push({ data, behind: heard.messages.length }));
  for (const name of names) {
    source.addEventListener(name, ({ data }) => heard.named.push([name, data]));
  }
}

/**
 * Runs in a page before its own scripts: what pages of cyclone-sse bring for browsers without an EventSource. It
 * asks again and again, says that a script does, keeps the last id, and takes what has come for one event.
 */
function polyfill() {
  delete globalThis.EventSource;
  const polls = { empty: 0, withMessages: 0, failed: 0 };
  globalThis.polls = polls;
  globalThis.EventSource = class {
    constructor(url) {
      this.url = url;
      this.lastEventId = null;
      this.listeners = {};
      this.isOpen = false;
      this.poll();
    }

    addEventListener(name, listener) {
      this.listeners[name] = listener;
    }

    poll() {
      const request = new XMLHttpRequest();
      request.open('GET', this.url);
      request.setRequestHeader('Accept', 'text/event-stream');
      request.setRequestHeader('Cache-Control', 'no-cache');
      request.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
      if (this.lastEventId !== null) request.setRequestHeader('Last-Event-ID', this.lastEventId);
      if (!this.isOpen) setTimeout(() => this.onopen?.());
      this.isOpen = true;
      request.onloadend = () => {
        const isAnswered = request.status === 200;
        if (isAnswered) this.take(request.responseText);
        else polls.failed += 1;
        setTimeout(() => this.poll(), isAnswered ? 0 : 100);
      };
      request.send();
    }

    take(text) {
      let name = 'message';
      const data = [];
      for (const line of text.split('\n')) {
        const [, field, value] = /^([a-z]*):\s*(.*)$/.exec(line) ?? [];
        if (field === 'event') name = value;
        else if (field === 'id') this.lastEventId = value;
        else if (field === 'data') data.push(value);
      }
      if (data.length === 0) {
        polls.empty += 1;
        return;
      }
      if (name === 'message') polls.withMessages += 1;
      const event = { type: name, data: data.join('\n'), lastEventId: this.lastEventId };
      this.listeners[name]?.(event);
      this[`on${name}`]?.(event);
    }
  };
}
