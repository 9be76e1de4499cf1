// The browser of the tests: one per suite, with a new page for each test, and the errors and requests of that page.

import assert from 'node:assert/strict';
import { availableParallelism, loadavg } from 'node:os';
import { chromium } from 'playwright-core';
import { showOutput } from '../spec/servers.mjs';

/** A suite with a browser; `tab.page` is the page of the test that runs. */
export function inBrowser(title, suite) {
  describe(title, () => {
    const tab = new Tab();
    registerHooks(tab);
    suite(tab);
  });
}

function registerHooks(tab) {
  before(async () => {
    tab.browser = await chromium.launch({
      executablePath: process.env.CHROMIUM,
      // Nothing but the tests' own requests leaves the browser.
      args: [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
  });
  after(() => tab.browser?.close());
  beforeEach(() => tab.open());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') {
      console.error('-- the page complained:', tab.complaints);
      showOutput();
    }
    await tab.page.close();
  });
}

class Tab {
  /** Opens a page in the place of the one that there is. */
  async open(options = {}) {
    await this.page?.close();
    this.page = await this.browser.newPage(options);
    this.complaints = [];
    this.requests = [];
    this.page.on('pageerror', (error) => this.complaints.push(String(error)));
    this.page.on('console', (message) => {
      if (message.type() === 'error') {
        this.complaints.push(message.text());
      }
    });
    this.page.on('dialog', (dialog) => {
      this.complaints.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    this.page.on('request', (request) => this.requests.push(request.url()));
  }

  /** Fails if anything was asked for but from this server. */
  assertNothingIsFromElsewhere(base) {
    const elsewhere = this.requests.filter((url) => !url.startsWith(base) && !url.startsWith('data:'));
    assert.deepEqual(elsewhere, []);
  }

  /** The page is not wider than the screen. */
  async assertFits() {
    const [wanted, there] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wanted <= there, `the page is ${wanted} wide on a screen of ${there}`);
  }

  /**
   * Fails unless frames come as quickly as `median` and `p95` say, in milliseconds. Other programs may take the
   * processor for a while: it is measured several times, and the best counts. False where the machine has had
   * no time for us at all, which says nothing of the page.
   */
  async isSmooth(bounds) {
    const measured = [];
    while (measured.length < 8) {
      const gaps = await this.page.evaluate(frameGaps, 3_000);
      const share = (part) => Math.round(gaps[Math.floor((gaps.length - 1) * part)] * 10) / 10;
      const { frames, median, p95 } = { frames: gaps.length, median: share(0.5), p95: share(0.95) };
      if (median <= bounds.median && p95 <= bounds.p95) {
        return true;
      }
      measured.push({ frames, median, p95 });
    }
    const isBusy = loadavg()[0] > 1.5 * availableParallelism();
    assert.ok(isBusy, JSON.stringify(measured));
    return false;
  }

  /**
   * What the tasks of the page's main thread take while `act` goes on: milliseconds of processor time, the
   * longest first. Unlike time by the clock it does not depend on what else is running.
   */
  async tasksDuring(act) {
    const session = await this.page.context().newCDPSession(this.page);
    const events = [];
    session.on('Tracing.dataCollected', ({ value }) => events.push(...value));
    await session.send('Tracing.start', { transferMode: 'ReportEvents', categories: 'toplevel,__metadata' });
    await act();
    const complete = new Promise((resolve) => session.once('Tracing.tracingComplete', resolve));
    await session.send('Tracing.end');
    await complete;
    await session.detach();
    const place = ({ pid, tid }) => `${pid}/${tid}`;
    const isMain = (event) => event.name === 'thread_name' && event.args.name === 'CrRendererMain';
    const mains = new Set(events.filter(isMain).map(place));
    const tasks = events.filter((event) => event.name.endsWith('::RunTask') && mains.has(place(event)));
    assert.ok(tasks.length > 0, 'the browser tells no tasks');
    return tasks.map((task) => (task.tdur ?? 0) / 1_000).sort((a, b) => b - a);
  }
}

/** Runs in the page: the gaps between frames for so long, in milliseconds and in order of size. */
function frameGaps(span) {
  const gaps = [];
  return new Promise((resolve) => {
    const begun = performance.now();
    let last = begun;
    const frame = () => {
      const now = performance.now();
      gaps.push(now - last);
      last = now;
      if (now - begun < span) requestAnimationFrame(frame);
      else resolve(gaps.sort((a, b) => a - b));
    };
    requestAnimationFrame(frame);
  });
}
