#!/usr/bin/env python3
"""A path between two TUN devices that delays, limits and loses packets: what `lossy.sh` measures over,
and, between TAP devices, what the hosts of `server/tests/cli/namespaces.rs` are cabled with.

    lossy_path.py DEVICE DEVICE --delay MS --loss PERCENT --rate MBIT --queue PACKETS --seed N [--tap]

Each direction is alike: a queue of so many packets, a rate at which they leave it, a delay, and the
loss of each with the same probability. Not the kernel's netem, because not every kernel has it; the
loss comes from a seed. Prints `ready` when the devices are there and runs until it is killed.
"""

import argparse
import fcntl
import heapq
import os
import random
import select
import struct
import time

TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0001, 0x0002, 0x1000
PACKET_LEN_MAX = 65_536


def device(name, kind):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), kind | IFF_NO_PI))
    return fd


class Direction:
    def __init__(self, source, sink, options, seed):
        self.source, self.sink, self.options = source, sink, options
        self.random = random.Random(seed)
        self.free_at = 0.0  # when the last packet has left the queue
        self.waiting = []  # when each packet arrives, in order of sending

    def take(self, now, due):
        """Reads what has come; puts what survives into `due`."""
        while True:
            try:
                packet = os.read(self.source, PACKET_LEN_MAX)
            except BlockingIOError:
                return
            except OSError:
                return  # the device is not up yet, or is gone
            if self.random.random() * 100 < self.options.loss:
                continue
            backlog = (self.free_at - now) * self.options.rate * 125_000
            if backlog > self.options.queue * 1_500:
                continue  # the queue is full
            self.free_at = max(now, self.free_at) + len(packet) / (self.options.rate * 125_000)
            heapq.heappush(due, (self.free_at + self.options.delay / 1e3, id(packet), self.sink, packet))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("devices", nargs=2)
    parser.add_argument("--delay", type=float, required=True, help="milliseconds")
    parser.add_argument("--loss", type=float, required=True, help="per cent")
    parser.add_argument("--rate", type=float, default=40, help="megabits a second")
    parser.add_argument("--queue", type=int, default=200, help="packets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tap", action="store_true", help="devices of Ethernet frames, for a bridge")
    options = parser.parse_args()
    kind = IFF_TAP if options.tap else IFF_TUN
    one, other = (device(name, kind) for name in options.devices)
    ways = [Direction(one, other, options, options.seed), Direction(other, one, options, options.seed + 1)]
    print("ready", flush=True)
    due = []
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else 1.0
        select.select([one, other], [], [], wait)
        now = time.monotonic()
        for way in ways:
            way.take(now, due)
        while due and due[0][0] <= now:
            _, _, sink, packet = heapq.heappop(due)
            try:
                os.write(sink, packet)
            except OSError:
                pass  # lost, as packets may be


main()
