"""Clients that stream tokens over HTTP, all in one thread, so as to leave the servers their cores.

While they run they only note what came and when; `events` looks at it later.
"""

import json
import math
import selectors
import socket
import time
from dataclasses import dataclass, field

# Longest silence of all answers.
PATIENCE_S = 300.0


class Failed(Exception):
    """What a server did wrong, in a sentence."""


@dataclass
class Stream:
    """When a request was sent, and what came when; on one clock."""

    began: float
    received: list = field(default_factory=list)


def play(address, path, bodies, clients, due=None):
    """The stream of each body; so many clients send one after another of them.

    `due` says how many seconds after the first each is sent at the earliest, in ascending order."""
    waiting = list(reversed(list(zip(due or [0.0] * len(bodies), bodies))))
    streams, began = [], time.perf_counter()
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            patience = PATIENCE_S
            while waiting and len(selector.get_map()) < clients:
                early = began + waiting[-1][0] - time.perf_counter()
                if early > 0:
                    patience = early
                    break
                stream = Stream(time.perf_counter())
                connection = connect(address, path, waiting.pop()[1])
                selector.register(connection, selectors.EVENT_READ, stream)
                streams.append(stream)
            ready = selector.select(patience)
            if not ready and patience == PATIENCE_S:
                raise Failed(f"nothing came for {PATIENCE_S:.0f} s")
            for key, _ in ready:
                try:
                    data = key.fileobj.recv(1 << 16)
                except OSError as error:
                    raise Failed(f"{address}: {error}") from None
                if data:
                    key.data.received.append((time.perf_counter(), data))
                    continue
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return streams


def connect(address, path, body):
    host, _, port = address.rpartition(":")
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    try:
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head.encode() + content)
    except OSError as error:
        raise Failed(f"{address}: {error}") from None
    return connection


def events(stream):
    """The data of each event of a stream, and when all of it was there."""
    raw, text, found = b"", b"", []
    chunks = iter(stream.received)
    head = b""
    while b"\r\n\r\n" not in head:
        part = next(chunks, None)
        if part is None:
            raise Failed(f"an answer ended early: {head[:200]}")
        when, head = part[0], head + part[1]
    head, _, raw = head.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] + b" ":
        rest = raw + b"".join(data for _, data in chunks)
        raise Failed(f"{head.splitlines()[0].decode()}: {rest[:300].decode(errors='replace')}")
    chunked = b"transfer-encoding: chunked" in head.lower()
    while True:
        body, raw = unchunked(raw) if chunked else (raw, b"")
        *whole, text = (text + body).split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: ") and event != b"data: [DONE]":
                found.append((when, json.loads(event.removeprefix(b"data: "))))
        part = next(chunks, None)
        if part is None:
            return found
        when, raw = part[0], raw + part[1]


def unchunked(raw):
    """What the whole chunks in `raw` hold, and what is left of it."""
    body = b""
    while True:
        size, line, rest = raw.partition(b"\r\n")
        if not line:
            return body, raw
        length = int(size.split(b";")[0], 16)
        if length == 0 or len(rest) < length + 2:
            return body, raw
        body, raw = body + rest[:length], rest[length + 2 :]


def times_of(stream, tokens):
    """The time of each token, of a stream whose events have `tokens(event)` of them."""
    times = []
    for when, event in events(stream):
        if "error" in event:
            raise Failed(str(event["error"])[:300])
        times += [when] * tokens(event)
    return times


def checked(times, count):
    if len(times) != count:
        raise Failed(f"{len(times)} tokens came of {count}")
    return times


def gaps_ms(streams):
    """Between one token and the next, of all streams' times."""
    pairs = [pair for times in streams for pair in zip(times, times[1:])]
    return [1000 * (after - before) for before, after in pairs]


def percentile(values, percent):
    """The nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
