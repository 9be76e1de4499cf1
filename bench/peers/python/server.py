"""A server made of sse-starlette on uvicorn and uvloop: it serves the streams that are measured, each
client with a queue of its own, and rolls increments up at the same beat as ours.

usage: server.py PORT REDIS_URL
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter, defaultdict

import redis.asyncio
import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

TICK = 0.017
PREFIX = "stream.tweet_updates."

queues = defaultdict(set)


def send(name, event):
    for queue in queues.get(name, ()):
        queue.put_nowait(event)


async def subscribe(request):
    name = request.path_params["name"]
    queue = asyncio.Queue()
    queues[name].add(queue)

    async def events():
        try:
            while True:
                yield await queue.get()
        finally:
            queues[name].discard(queue)

    return EventSourceResponse(events(), ping=55)


async def feed(url):
    counts = Counter()
    pubsub = redis.asyncio.from_url(url, decode_responses=True).pubsub()
    await pubsub.subscribe("stream.score_updates")
    await pubsub.psubscribe(PREFIX + "*")

    def tick():
        send("eps", {"data": json.dumps(counts, separators=(",", ":"))})
        counts.clear()

    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            channel = message["channel"]
            event = {"event": channel, "data": message["data"]}
            send("details/" + channel.removeprefix(PREFIX), event)
        elif message["type"] == "message":
            send("raw", {"data": message["data"]})
            if not counts:
                loop = asyncio.get_running_loop()
                loop.call_later(TICK - loop.time() % TICK, tick)
            counts[message["data"]] += 1


@contextlib.asynccontextmanager
async def lifespan(_app):
    task = asyncio.create_task(feed(sys.argv[2]))
    yield
    task.cancel()


app = Starlette(routes=[Route("/subscribe/{name:path}", subscribe)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        backlog=4096,
        access_log=False,
        log_level="warning",
    )
