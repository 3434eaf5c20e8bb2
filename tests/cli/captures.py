# SPDX-License-Identifier: BSD-2-Clause
"""Writes and compares captures for the tests of the tools, with nothing but python.

captures.py make FILE FORMAT COUNT GAP_NS [LENGTH [WIRE_LENGTH]]    FORMAT: us, ns, us-swapped, ns-swapped, pcapng
captures.py same A B                                                the same frames in the same order
captures.py repeated A TIMES B                                      B has all frames of A, so often
captures.py frames FILE                                             a line per frame: time in ns, captured, length, which
"""
import struct
import sys


def frame(i, length):
    """Each is another one: its number is in it twice."""
    head = bytes.fromhex("ffffffffffff02000000000188b5") + struct.pack(">Q", i)
    return (head + bytes((i * 7 + k) & 255 for k in range(max(0, length - len(head)))))[:length]


def make(path, kind, count, gap, length=60, wire=None):
    order = ">" if kind.endswith("swapped") else "<"  # as seen from most machines
    with open(path, "wb") as out:
        if kind == "pcapng":
            def block(what, body):
                size = struct.pack("<I", len(body) + 12)
                out.write(struct.pack("<I", what) + size + body + size)
            block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
            block(1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHBxxx", 9, 1, 9) + bytes(4))
        else:
            out.write(struct.pack(order + "IHHiIII", 0xA1B23C4D if kind.startswith("ns") else 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for i in range(count):
            when = 1_600_000_000_123_456_000 + i * gap
            data = frame(i, length)
            if kind == "pcapng":
                body = struct.pack("<IIIII", 0, when >> 32, when & 0xFFFFFFFF, len(data), wire or len(data))
                block(6, body + data + bytes(-len(data) % 4))
            else:
                part = when % 10**9 // (1 if kind.startswith("ns") else 1000)
                out.write(struct.pack(order + "IIII", when // 10**9, part, len(data), wire or len(data)) + data)


def read(path):
    """(time, captured bytes, length on the wire) of each, of a capture that nmreplay has recorded"""
    data = open(path, "rb").read()
    magic, major, minor, _, _, _, link = struct.unpack_from("<IHHiIII", data)
    assert (major, minor, link) == (2, 4, 1) and magic in (0xA1B23C4D, 0xA1B2C3D4), data[:24]
    unit = 1 if magic == 0xA1B23C4D else 1000
    at, out = 24, []
    while at < len(data):
        seconds, part, captured, length = struct.unpack_from("<IIII", data, at)
        assert at + 16 + captured <= len(data), "cut off"
        out.append((seconds * 10**9 + part * unit, data[at + 16 : at + 16 + captured], length))
        at += 16 + captured
    return out


def main():
    what, *args = sys.argv[1:]
    if what == "make":
        make(args[0], args[1], *map(int, args[2:]))
    elif what == "same":
        a, b = ([f[1:] for f in read(p)] for p in args)
        sys.exit(0 if a == b else f"{args[0]} has {len(a)} frames, {args[1]} has {len(b)}, and they are not the same")
    elif what == "repeated":
        a, b = ([f[1:] for f in read(p)] for p in (args[0], args[2]))
        sys.exit(0 if a * int(args[1]) == b else f"{args[2]} has {len(b)} frames, and not those of {args[0]} {args[1]} times")
    elif what == "frames":
        for when, data, length in read(args[0]):
            print(when, len(data), length, struct.unpack(">Q", data[14:22])[0])


if __name__ == "__main__":
    main()
