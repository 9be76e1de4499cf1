// A server made of a library from npm: it serves the streams that are measured, as the library's own
// documentation shows it, and rolls increments up at the same beat as ours.
//
// usage: server.mjs better-sse|sse-channel PORT REDIS_URL
import http from "node:http";
import { createChannel, createSession } from "better-sse";
import { createClient } from "redis";
import SseChannel from "sse-channel";

const [library, port, redisUrl] = process.argv.slice(2);
const TICK_MS = 17;

// A channel of each library: who is in it, and what goes to all of them.
const libraries = {
    "better-sse": () => {
        const channel = createChannel();
        // Payloads are text already.
        const options = { serializer: String, keepAlive: 55_000 };
        return {
            add: async (request, response) => {
                channel.register(await createSession(request, response, options));
            },
            send: (data, event) => channel.broadcast(data, event),
        };
    },
    "sse-channel": () => {
        const channel = new SseChannel({ pingInterval: 55_000 });
        return {
            add: (request, response) => channel.addClient(request, response),
            send: (data, event) => channel.send(event === undefined ? { data } : { data, event }),
        };
    },
};

const channels = new Map();
const channelOf = (name) => {
    let channel = channels.get(name);
    if (channel === undefined) {
        channel = libraries[library]();
        channels.set(name, channel);
    }
    return channel;
};

const server = http.createServer((request, response) => {
    const name = request.url.match(/^\/subscribe\/(.+)$/)?.[1];
    if (name === undefined) {
        response.writeHead(404).end();
    } else {
        channelOf(name).add(request, response);
    }
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });

const redis = createClient({ url: redisUrl });
await redis.connect();

let counts = new Map();
await redis.subscribe("stream.score_updates", (id) => {
    channels.get("raw")?.send(id);
    if (channels.has("eps")) {
        if (counts.size === 0) {
            setTimeout(tick, TICK_MS - (performance.now() % TICK_MS));
        }
        counts.set(id, (counts.get(id) ?? 0) + 1);
    }
});

function tick() {
    const increments = JSON.stringify(Object.fromEntries(counts));
    counts = new Map();
    channels.get("eps").send(increments);
}

await redis.pSubscribe("stream.tweet_updates.*", (tweet, channel) => {
    const id = channel.slice("stream.tweet_updates.".length);
    channels.get(`details/${id}`)?.send(tweet, channel);
});
