// The browser of the tests: one for each suite, with a new page for each test, and what that page complained
// about or asked elsewhere for.

import assert from 'node:assert/strict';
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

  /** How smooth the page is for so long: gaps between frames and tasks over 50 ms, in milliseconds. */
  async smoothness(milliseconds) {
    return this.page.evaluate(async (span) => {
      const tasks = [];
      const observer = new PerformanceObserver((list) => {
        tasks.push(...list.getEntries().map((entry) => entry.duration));
      });
      observer.observe({ entryTypes: ['longtask'] });
      const gaps = [];
      await new Promise((resolve) => {
        const begun = performance.now();
        let last = begun;
        const frame = () => {
          const now = performance.now();
          gaps.push(now - last);
          last = now;
          if (now - begun < span) requestAnimationFrame(frame);
          else resolve();
        };
        requestAnimationFrame(frame);
      });
      tasks.push(...observer.takeRecords().map((entry) => entry.duration));
      observer.disconnect();
      gaps.sort((a, b) => a - b);
      tasks.sort((a, b) => a - b);
      const share = (part) => gaps[Math.floor((gaps.length - 1) * part)];
      return { frames: gaps.length, median: share(0.5), p95: share(0.95), worst: gaps.at(-1), tasks };
    }, milliseconds);
  }
}
