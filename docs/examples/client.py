#!/usr/bin/env python3
"""A client of the Dialtone protocol in nothing but Python's standard library.

It shows that docs/protocol.md is complete; the § signs refer to it. WebSocket over plain TCP only.

    python3 client.py ws://127.0.0.1:4480 sub 'a.*'
    python3 client.py ws://127.0.0.1:4480 pub a.b '{"hello": 1}'
    python3 client.py ws://127.0.0.1:4480 req some.service '"ping"'
    python3 client.py ws://127.0.0.1:4480 --selftest

DIALTONE_TOKEN, or DIALTONE_USER and DIALTONE_PASSWORD, are the credentials.
"""

import argparse
import base64
import hashlib
import json
import os
import queue
import socket
import struct
import sys
import threading
import time
import urllib.parse

JSON = 1  # The encoding tag of §6.1.
FRAME_LEN_MAX = 65_536  # Until the welcome (§3.1).
PARTIAL_MAX = 64  # Unfinished messages that are kept (§6.3),
PARTIAL_LEN_MAX = 1 << 30  # their bytes together,
PARTIAL_IDLE_MAX = 120  # and how long one waits for its next fragment, in seconds.


class Refused(Exception):
    """The broker refused a call or closed the connection."""

    def __init__(self, code, text):
        super().__init__(f"{text} ({code})")
        self.code = code


# --- Encoding (§3.2) ---


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def blob(data):
    return varint(len(data)) + data


def text(value):
    return blob(value.encode())


def option(value, encode):
    return b"\0" if value is None else b"\1" + encode(value)


class Cut:
    """Takes fields from the front of a frame."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        part = self.data[self.at : self.at + length]
        if len(part) != length:
            raise Refused(400, "a frame ends too early")
        self.at += length
        return part

    def varint(self, bits=64):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if value >> bits:
            raise Refused(400, "a number is too large")
        return value

    def flag(self):
        byte = self.take(1)[0]
        if byte > 1:
            raise Refused(400, "neither yes nor no")
        return byte == 1

    def blob(self):
        return self.take(self.varint())

    def text(self):
        return self.blob().decode()

    def option(self, decode):
        return decode() if self.flag() else None

    def list(self, decode):
        return [decode() for _ in range(self.varint())]

    def refusal(self):
        return Refused(self.varint(16), self.text())

    def result(self, decode):
        return self.refusal() if self.flag() else decode()

    def rest(self):
        return self.take(len(self.data) - self.at)


# --- WebSocket (§1.1) ---


class WebSocket:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "ws":
            raise ValueError("only ws:// is spoken here")
        self.socket = socket.create_connection((parts.hostname, parts.port or 4480), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        self.lock = threading.Lock()
        key = base64.b64encode(os.urandom(16)).decode()
        path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: dialtone.1\r\n\r\n".encode()
        )
        status = self.stream.readline(8192)
        headers = {}
        while (line := self.stream.readline(8192).strip()):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        if (
            b" 101 " not in status
            or headers.get("sec-websocket-accept") != base64.b64encode(accept).decode()
            or headers.get("sec-websocket-protocol") != "dialtone.1"
        ):
            raise ConnectionError(f"no Dialtone here: {status.decode('latin-1').strip()}")
        self.socket.settimeout(None)
        self.buffer = bytearray()

    def send(self, data, opcode=2):
        mask = os.urandom(4)
        length = len(data)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
        # One long number is the quickest way to mask without a library.
        keys = (mask * (length // 4 + 1))[:length]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(length, "big")
        with self.lock:
            self.socket.sendall(head + mask + masked)

    def read_exactly(self, length):
        data = self.stream.read(length)
        if len(data) != length:
            raise ConnectionError("the broker hung up")
        return data

    def receive(self, length):
        """That many bytes of the stream that all binary messages make up."""
        while len(self.buffer) < length:
            first, second = self.read_exactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self.read_exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self.read_exactly(8))
            payload = self.read_exactly(size)
            match first & 0x0F:
                case 0 | 2:
                    self.buffer += payload
                case 8:
                    raise ConnectionError("the broker closed the WebSocket")
                case 9:
                    self.send(payload, opcode=10)
                case 10:
                    pass
                case opcode:
                    raise ConnectionError(f"unexpected WebSocket opcode {opcode}")
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        return data

    def close(self):
        try:
            self.send(struct.pack("!H", 1000), opcode=8)
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The broker was quicker.
        self.stream.close()
        self.socket.close()


# --- Messages (§6) ---


class Message:
    def __init__(self, subject, reply, encoding, headers, payload):
        self.subject, self.reply, self.encoding = subject, reply, encoding
        self.headers, self.payload = headers, payload

    @property
    def data(self):
        return json.loads(self.payload) if self.encoding == JSON else self.payload


def section(subject, reply, headers, payload):
    head = text(subject) + option(reply, text) + bytes([JSON])
    return head + option(headers, lambda value: blob(json.dumps(value).encode())) + payload


class Client:
    """A connection. Messages are handed to callbacks on the thread that reads."""

    def __init__(self, url, credentials=b"\0", name="client.py/1"):
        self.socket = WebSocket(url)
        self.answers, self.callbacks, self.listed, self.partial = {}, {}, {}, {}
        self.next_number, self.numbers = 0, threading.Lock()
        self.closed = None
        self.send(0, b"DLTN" + varint(1) + varint(1) + text(name) + credentials)
        self.frame_len_max = FRAME_LEN_MAX
        kind, cut = self.receive()
        if kind != 1:
            raise cut.refusal() if kind == 19 else Refused(400, "the first frame is not a welcome")
        self.version, self.connection = cut.varint(16), cut.varint()
        self.node, self.server, self.identity, self.inbox = (cut.text() for _ in range(4))
        names = ["frame_len_max", "message_len_max", "fragment_len_max", "fragmented_max", "subscriptions_max"]
        names += ["requests_max", "messages_per_second_max", "bytes_per_second_max"]
        self.limits = {name: cut.varint() for name in names}
        self.ping_interval = cut.varint(32) / 1000
        self.addresses = cut.list(cut.text)
        self.frame_len_max = self.limits["frame_len_max"] + 64
        self.callbacks[0] = self.on_inbox
        threading.Thread(target=self.read, daemon=True).start()

    def send(self, kind, fields):
        body = bytes([kind]) + fields
        self.socket.send(struct.pack("<I", len(body)) + body)

    def receive(self):
        (length,) = struct.unpack("<I", self.socket.receive(4))
        if not 0 < length <= self.frame_len_max:
            raise Refused(413, f"a frame of {length} bytes")
        cut = Cut(self.socket.receive(length))
        return cut.take(1)[0], cut

    def number(self):
        with self.numbers:
            self.next_number += 1
            return self.next_number

    def ask(self, kind, fields, request, timeout=10):
        self.answers[request] = answer = queue.Queue(1)
        try:
            if self.closed:
                raise self.closed
            self.send(kind, fields)
            result = answer.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("the broker did not answer") from None
        finally:
            self.answers.pop(request, None)
        if isinstance(result, Exception):
            raise result
        return result

    # What a user calls.

    def subscribe(self, pattern, callback, group=None, drop_oldest=0, tap=False):
        request, number = self.number(), self.number()
        self.callbacks[number] = callback
        wanted = varint(number) + text(pattern) + option(group, text) + b"\0" + bytes([tap]) + varint(drop_oldest)
        for _, refusal in self.ask(2, varint(request) + varint(1) + wanted, request):
            del self.callbacks[number]
            raise refusal
        return number

    def unsubscribe(self, number):
        request = self.number()
        self.ask(4, varint(request) + varint(1) + varint(number), request)
        self.callbacks.pop(number, None)

    def publish(self, subject, data, reply=None, headers=None, acknowledged=True):
        """Returns to how many the message was sent, when that is asked for."""
        payload = json.dumps(data).encode()
        request = self.number() if acknowledged else None
        wanted = option(request, varint)
        step = self.limits["fragment_len_max"]
        if len(payload) <= step:
            last = wanted + b"\0\0" + section(subject, reply, headers, payload)
        else:
            message = self.number()
            for index, start in enumerate(range(0, len(payload), step)):
                fragment = b"\1" + varint(message) + varint(index) + varint(len(payload))
                about = (reply, headers) if index == 0 else (None, None)
                last = b"\0" + fragment + section(subject, *about, payload[start : start + step])
                if start + step < len(payload):
                    self.send(6, b"\0" + last)
            last = wanted + last
        if not acknowledged:
            return self.send(6, last)
        return self.ask(6, last, request)

    def request(self, subject, data, timeout=10):
        token = f"{self.inbox}.{self.number()}"
        self.answers[token] = answer = queue.Queue(1)
        try:
            if self.publish(subject, data, reply=token) == 0:
                raise Refused(503, f"nobody subscribes to {subject}")
            return answer.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer from {subject}") from None
        finally:
            del self.answers[token]

    def interest(self, subject, wait_ms=0):
        request = self.number()
        fields = varint(request) + text(subject) + varint(wait_ms)
        return self.ask(9, fields, request, timeout=10 + wait_ms / 1000)

    def list(self):
        request = self.number()
        self.listed[request] = []
        return self.ask(11, varint(request), request)

    def close(self):
        self.closed = Refused(0, "closed here")
        try:
            self.send(19, varint(0) + text(""))
        except OSError:
            pass  # The broker was quicker.
        self.socket.close()

    # What the broker says.

    def read(self):
        try:
            while True:
                self.on_frame(*self.receive())
        except (OSError, ValueError, Refused) as error:
            self.closed = self.closed or error
            for waiting in list(self.answers.values()):
                waiting.put(self.closed)

    def on_frame(self, kind, cut):
        match kind:
            case 3:
                request = cut.varint(32)
                self.on_answer(request, cut.list(lambda: (cut.varint(32), cut.refusal())))
            case 5:
                self.on_answer(cut.varint(32), True)
            case 7:
                self.on_answer(cut.varint(32), cut.result(lambda: cut.varint(32)))
            case 8:
                self.on_deliver(cut)
            case 10:
                self.on_answer(cut.varint(32), cut.result(cut.flag))
            case 12:
                request = cut.varint(32)
                self.listed.setdefault(request, []).extend(cut.list(lambda: self.wanted(cut)))
                if not cut.flag():
                    self.on_answer(request, self.listed.pop(request))
            case 13:
                self.send(14, varint(cut.varint()))
            case 14 | 17:
                pass
            case 15:
                action, subject, refusal = cut.varint(), cut.text(), cut.refusal()
                print(f"{['publish', 'subscribe'][action]} {subject}: {refusal}", file=sys.stderr)
            case 16:
                self.callbacks.pop(cut.varint(32), None)
            case 18 | 20:
                self.addresses = cut.list(cut.text)
            case 19:
                raise cut.refusal()
            case _:
                raise Refused(400, f"a frame of kind {kind} is out of place")

    @staticmethod
    def wanted(cut):
        number, pattern, group = cut.varint(32), cut.text(), cut.option(cut.text)
        if cut.varint() == 2:
            cut.take(1)
        return {"id": number, "pattern": pattern, "group": group, "tap": cut.flag(), "drop_oldest": cut.varint(16)}

    def on_answer(self, request, result):
        if waiting := self.answers.get(request):
            waiting.put(result)

    def on_deliver(self, cut):
        subscription, _unreliable = cut.varint(32), cut.flag()
        fragment = cut.option(lambda: (cut.varint(), cut.varint(32), cut.varint()))
        message = Message(cut.text(), cut.option(cut.text), cut.take(1)[0], cut.option(cut.blob), cut.rest())
        if fragment:
            message = self.on_fragment(fragment, message)
        if message and (callback := self.callbacks.get(subscription)):
            callback(message)

    def on_fragment(self, fragment, part):
        """The whole message with its last fragment, None before; what has a gap is dropped."""
        number, index, total = fragment
        now = time.monotonic()
        self.partial = {n: kept for n, kept in self.partial.items() if now - kept["heard"] < PARTIAL_IDLE_MAX}
        held = sum(len(kept["payload"]) for kept in self.partial.values())
        if index == 0 and len(self.partial) < PARTIAL_MAX:
            self.partial[number] = {"next": 0, "payload": bytearray(), "message": part}
        if number not in self.partial:
            return None
        kept = self.partial.pop(number)
        whole_len = len(kept["payload"]) + len(part.payload)
        if index != kept["next"] or whole_len > total or held + len(part.payload) > PARTIAL_LEN_MAX:
            return None
        kept["payload"] += part.payload
        if whole_len < total:
            self.partial[number] = kept | {"next": index + 1, "heard": now}
            return None
        kept["message"].payload = bytes(kept["payload"])
        return kept["message"]

    def on_inbox(self, message):
        if waiting := self.answers.get(message.subject):
            waiting.put(message)


# --- Commands ---


def credentials():
    if token := os.environ.get("DIALTONE_TOKEN"):
        return b"\1" + text(token)
    if user := os.environ.get("DIALTONE_USER"):
        return b"\2" + text(user) + text(os.environ.get("DIALTONE_PASSWORD", ""))
    return b"\0"


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED {what}: {found!r} instead of {expected!r}")
    print(f"ok {what}")


def selftest(url):
    one, two = Client(url, credentials()), Client(url, credentials())
    base = f"selftest.{os.urandom(8).hex()}"
    print(f"ok connected to {one.server}, node {one.node}, as {one.identity!r}")
    received = queue.Queue()
    plain = one.subscribe(f"{base}.*.c", received.put)
    expect("publish is counted", two.publish(f"{base}.b.c", {"x": 1}, headers={"h": "ü"}), 1)
    message = received.get(timeout=10)
    expect("message", (message.subject, message.data), (f"{base}.b.c", {"x": 1}))
    expect("headers", json.loads(message.headers), {"h": "ü"})
    expect("nobody subscribes", two.publish(f"{base}.b.d", 1), 0)
    two.publish(f"{base}.b.c", "unacknowledged", acknowledged=False)
    expect("without acknowledgement", received.get(timeout=10).data, "unacknowledged")

    large = "0123456789" * (two.limits["fragment_len_max"] // 4)
    expect("a large message is counted", two.publish(f"{base}.large.c", large), 1)
    expect("a large message is whole", received.get(timeout=10).data == large, True)

    def serve(message):
        one.publish(message.reply, message.data * 2, acknowledged=False)

    one.subscribe(f"{base}.double", serve, group="workers")
    two.subscribe(f"{base}.double", serve, group="workers")
    expect("request and reply", two.request(f"{base}.double", 21).data, 42)
    expect("a group counts once", two.publish(f"{base}.double", 1, reply=f"{base}.nobody"), 1)
    expect("interest", (two.interest(f"{base}.double"), two.interest(f"{base}.nobody")), (True, False))
    tapped = queue.Queue()
    two.subscribe(f"{base}.tapped", tapped.put, tap=True)
    expect("a tap is not counted", one.publish(f"{base}.tapped", 1), 0)
    expect("a tap receives", tapped.get(timeout=10).data, 1)
    patterns = sorted(entry["pattern"] for entry in one.list())
    expect("list", patterns, [f"{base}.*.c", f"{base}.double"])
    for what, call in [
        ("a request without a service", lambda: two.request(f"{base}.nobody", 1)),
        ("an invalid subject", lambda: two.publish("a..b", 1)),
        ("an invalid pattern", lambda: two.subscribe("a.>.b", print)),
    ]:
        try:
            call()
            sys.exit(f"FAILED {what} is refused")
        except Refused as refused:
            print(f"ok {what} is refused: {refused}")
    one.unsubscribe(plain)
    expect("unsubscribe", two.publish(f"{base}.b.c", 1), 0)
    one.close()
    two.close()
    print("all is well")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("command", nargs="?", choices=["sub", "pub", "req"])
    parser.add_argument("subject", nargs="?")
    parser.add_argument("data", nargs="?", default="null", help="JSON")
    parser.add_argument("--selftest", action="store_true")
    args = parser.parse_args()
    if args.selftest:
        return selftest(args.url)
    if not (args.command and args.subject):
        parser.error("say what to do: sub, pub or req, and a subject")
    client = Client(args.url, credentials())
    if args.command == "pub":
        print(client.publish(args.subject, json.loads(args.data)))
    elif args.command == "req":
        print(json.dumps(client.request(args.subject, json.loads(args.data)).data))
    else:
        messages = queue.Queue()
        client.subscribe(args.subject, messages.put)
        while True:
            message = messages.get()
            print(message.subject, message.data, flush=True)
    client.close()


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
