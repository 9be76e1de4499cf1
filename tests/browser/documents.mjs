// Documents as a server could send them to the admin page: more connections than a test could open, texts
// that no client library would send, nodes of older servers.

const STARTED_SEC = 1_700_000_000;
const NAMESPACES = [
  '/eps',
  '/raw',
  '/details/1F602',
  '/details/2665',
  '/details/1F1FA-1F1F8',
  '/kiosk_interaction',
  '/channels/news,/channels/weather',
];
const BOUNDS_US = [
  100, 250, 500, 1_000, 2_500, 5_000, 10_000, 17_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
];

/** What clients may call themselves. A page that takes any of these for markup shows an alert or a picture. */
export const HOSTILE = [
  '<img src=x onerror="alert(1)">',
  '</script><script>alert(1)</script>',
  '"><svg onload=alert(1)>',
  '\u202Etxt.exe\u202C \u2067right to left\u2069',
  'javascript:alert(1)//{{constructor}}${alert(1)}',
  '&lt;b&gt;&#x3C;i&#x3E;\u0000\u0007\uFEFF',
  `${'a very long name of an agent that does not end '.repeat(200)}`,
  '',
];
const AGENTS = [
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15',
  'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
  'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36',
  'curl/8.8.0',
];

/** A server with this many connections, `seconds` after its start. The same moment gives the same document. */
export function status({ seconds = 3_600, connections = 5_000, node = 'rust-production-web.1' } = {}) {
  const wave = (period) => Math.round(40 * period * (1 - Math.cos(seconds / period)));
  const subscribed = 9_000 + Math.floor(seconds / 3);
  const spread = (total, places) => {
    const shares = [0.02, 0.31, 0.4, 0.16, 0.06, 0.03, 0.015, 0.004, 0.0008, 0.0002];
    const counts = new Array(BOUNDS_US.length + 1).fill(0);
    shares.forEach((share, index) => (counts[index + places] = Math.floor(total * share)));
    return { bounds_us: BOUNDS_US, counts, sum_us: total * 800 };
  };
  const messages = 250 * seconds + wave(20);
  const events = 60 * connections * seconds + wave(9) * connections;
  return {
    node,
    status: 'OK',
    reported_at: STARTED_SEC + Math.floor(seconds),
    startup_time: STARTED_SEC,
    msgs_broadcast: 560 * seconds,
    connections_total: connections,
    stats: {
      version: '0.1.0',
      uptime_ms: Math.round(seconds * 1_000),
      sockets: connections + 3,
      streams: {
        raw: 12,
        eps: connections - 900,
        details: 688,
        kiosk_interaction: 0,
        channels: 180,
        several: 20,
      },
      accepted: subscribed + 700,
      subscribed,
      shed: 0,
      replayed: 3_210,
      replay_refused: 14,
      messages_in: messages,
      messages_dropped: { encoding: 2, channel: 0, oversized: 0, unknown: 0, relay: 0 },
      frames: 310 * seconds,
      events_out: events,
      bytes_out: events * 62,
      conflations: 1_204,
      publications: 27,
      channels: 95,
      ticks: Math.floor(58.8 * seconds),
      closes: {
        client: subscribed - connections - 340,
        reset: 210 + Math.floor(seconds / 40),
        timeout: 3,
        slow: 12,
        idle: 40,
        answered: 699,
        protocol: 1,
        lifetime: 0,
        cleanup: 75,
        shed: 0,
        drain: 0,
        failure: 0,
      },
      tick_lateness: spread(58.8 * seconds, 0),
      delivery: {
        raw: spread(250 * seconds, 0),
        eps: spread(58.8 * seconds, 3),
        details: spread(250 * seconds, 0),
        kiosk_interaction: spread(0, 0),
        channels: spread(9 * seconds, 1),
        several: spread(2 * seconds, 0),
      },
      log: { bytes: 1_204_123, bytes_max: 4_194_304, frames: 10_412 },
      source: {
        kind: 'redis',
        live: true,
        for_ms: Math.round(seconds * 1_000) - 900,
        place: 'redis://broker.internal:6379',
        losses: 1,
      },
      memory_bytes: 9_437_184 + (Math.floor(seconds) % 7) * 65_536,
      cpu_ms: Math.round(seconds * 83),
      descriptors: connections + 11,
      descriptors_max: 20_000,
    },
    connections: Array.from({ length: connections }, (_, index) => connection(index, seconds, connections)),
  };
}

function connection(index, seconds, connections) {
  const namespace = NAMESPACES[Math.floor(index ** 1.5) % NAMESPACES.length];
  const age = Math.floor(seconds * (1 - index / connections));
  const isSlow = index % 97 === 5;
  return {
    request_path: namespace.startsWith('/channels')
      ? `/subscribe?ns=${namespace.replaceAll(',', '&ns=')}`
      : `/subscribe${namespace}`,
    namespace,
    tag: namespace.startsWith('/details/') ? namespace.slice('/details/'.length) : null,
    created_at: STARTED_SEC + Math.floor(seconds) - age,
    age,
    client_ip:
      index % 11 === 3
        ? `2001:db8::${(index * 31).toString(16)}`
        : `10.${index % 7}.${index % 251}.${index % 199}`,
    user_agent: index % 5 === 1 ? HOSTILE[index % HOSTILE.length] : AGENTS[index % AGENTS.length],
    msgs_sent: Math.floor(age * (namespace === '/eps' ? 58 : 3 + (index % 5))),
    behind: isSlow ? 1 + (index % 400) : 0,
  };
}

/** A cluster of nodes of this server, and of older ones that say less. */
export function cluster({ seconds = 3_600 } = {}) {
  const web = (number) => {
    const report = status({
      seconds: seconds - number,
      connections: 1_000 * number,
      node: `rust-production-web.${number}`,
    });
    return { ...report, connections: report.connections.slice(0, 3) };
  };
  const now = STARTED_SEC + Math.floor(seconds);
  const older = {
    node: 'node-production-web.4',
    status: 'OK',
    reported_at: now - 21,
    startup_time: STARTED_SEC,
    connections: [{ request_path: '/subscribe/eps' }, null],
  };
  const least = { node: '<b onclick=alert(1)>\u202Ebold</b>', stats: null, connections: 'none' };
  return { reported_at: now, nodes: [web(3), older, web(1), least, web(2), null], stale: 1, malformed: 2 };
}
