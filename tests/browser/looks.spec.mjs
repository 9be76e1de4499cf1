// How both pages look: on a phone and on a desktop, light and dark. Screenshots are saved in target/screenshots.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { WireReader, closeClients, until } from '../spec/clients.mjs';
import { Streamer } from '../spec/servers.mjs';
import { inBrowser } from './browser.mjs';
import { cluster, status } from './documents.mjs';

const FOLDER = fileURLToPath(new URL('../../target/screenshots/', import.meta.url));
const SCREENS = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };
/** WCAG 2.2, success criterion 1.4.3. */
const CONTRAST_MIN = 4.5;

inBrowser('the looks of the pages', (tab) => {
  let streamer;
  before(async () => {
    mkdirSync(FOLDER, { recursive: true });
    streamer = await Streamer.start(['--demo', '--demo-rate', '400']);
  });
  after(() => streamer?.stop());
  afterEach(closeClients);

  async function openAdmin() {
    let seconds = 3_600;
    await tab.page.clock.install();
    await tab.page.route('**/status.json', (route) => route.fulfill({ json: status({ seconds }) }));
    await tab.page.route('**/cluster.json', (route) => route.fulfill({ json: cluster({ seconds }) }));
    await tab.page.goto(streamer.url('/admin/'));
    // Some minutes in a few seconds, so that there is something to see in the charts.
    for (let count = 0; count < 40; count += 1) {
      seconds += 7.5;
      const answer = tab.page.waitForResponse('**/status.json');
      await tab.page.clock.runFor(2_050);
      await (await answer).finished();
      await tab.page.clock.runFor(50);
    }
  }

  async function openLive() {
    await tab.page.goto(streamer.url('/'));
    await tab.page.waitForSelector('.cell.lit');
  }

  async function openTweets() {
    await openLive();
    await tab.page.click('.cell >> nth=1');
    await until(async () => (await tab.page.$$('#tweets > li')).length >= 4, 'there are some tweets');
  }

  const PAGES = { admin: openAdmin, live: openLive, tweets: openTweets };

  for (const [name, open] of Object.entries(PAGES)) {
    describe(name, () => {
      for (const [screen, viewport] of Object.entries(SCREENS)) {
        for (const colorScheme of ['light', 'dark']) {
          it(`on a ${screen}, ${colorScheme}`, async () => {
            await tab.open({ viewport, colorScheme });
            await open();
            const path = `${FOLDER}${name}-${screen}-${colorScheme}`;
            await tab.page.screenshot({ path: `${path}.png` });
            if (name === 'admin') {
              await tab.page.screenshot({ path: `${path}-whole.png`, fullPage: true });
            }
            await tab.assertFits();
            const { isDark, faint } = await tab.page.evaluate(legibility, CONTRAST_MIN);
            assert.equal(isDark, colorScheme === 'dark');
            assert.deepEqual(faint, []);
            assert.deepEqual(tab.complaints, []);
          });
        }
      }

      it('fits on the narrowest phone', async () => {
        await tab.open({ viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true });
        await open();
        await tab.assertFits();
      });
    });
  }

  it('the admin page says in all schemes that figures are old', async () => {
    for (const colorScheme of ['light', 'dark']) {
      await tab.open({ viewport: SCREENS.desktop, colorScheme });
      await WireReader.open(streamer.url('/subscribe/eps'));
      await tab.page.goto(streamer.url('/admin/'));
      await tab.page.waitForSelector('#connections tbody tr');
      await tab.page.route('**/status.json', (route) => route.abort());
      await tab.page.waitForSelector('.old');
      await tab.page.screenshot({ path: `${FOLDER}admin-old-${colorScheme}.png` });
      const { faint } = await tab.page.evaluate(legibility, CONTRAST_MIN);
      assert.deepEqual(faint, []);
    }
  });
});

/** Runs in the page: whether it is dark, and what has too little contrast to be read. */
function legibility(least) {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const isSolid = (colour) => (rgb(colour)[3] ?? 1) > 0;
  const luminance = (colour) => {
    const [r, g, b] = rgb(colour).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    const ground = getComputedStyle(element).backgroundColor;
    return isSolid(ground) || !element.parentElement ? ground : groundOf(element.parentElement);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = new Set();
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const isShown = element.checkVisibility() && texts.currentNode.data.trim() !== '';
    if (!isShown || element.closest('script, noscript, :disabled')) continue;
    const [a, b] = [getComputedStyle(element).color, groundOf(element)].map(luminance).sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < least) faint.add(`${element.localName}.${element.className}: ${contrast.toFixed(2)}`);
  }
  return { isDark: luminance(groundOf(document.body)) < 0.2, faint: [...faint] };
}
