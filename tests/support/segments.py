#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Large frames made by scapy, and what a switch made of them, judged by scapy and by tshark.

segments.py make DIR    writes DIR/N.frame: a virtio-net header of 12 bytes and a frame
segments.py check DIR   judges DIR/N.pcap: what arrived at a port without headers. Exit 77: scapy or tshark is missing
"""
import pathlib
import random
import shutil
import struct
import subprocess
import sys

try:
    from scapy.all import (Dot1AD, Dot1Q, Ether, IP, IPv6, IPv6ExtHdrFragment, Raw, TCP, UDP, defragment, defragment6, raw, rdpcap)
except ImportError:
    print("python3-scapy is not installed (scripts/install-deps test)")
    sys.exit(77)
if not shutil.which("tshark"):
    print("tshark is not installed (scripts/install-deps test)")
    sys.exit(77)

NONE, TCP4, UFO, TCP6, USO = 0, 1, 3, 4, 5
SIZE = 1400


def cases():
    """(what, IP version, VLAN tags, bytes of payload) of each."""
    for version in (4, 6):
        for tags in (0, 1, 2):
            for what in ("tso", "uso", "ufo", "tcp", "udp"):
                for payload in (100, 1001) if what in ("tcp", "udp") else (1, 10_000, 60_001):
                    yield what, version, tags, payload


def build(number, what, version, tags, payload):
    data = random.Random(number).randbytes(payload)
    p = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
    if tags == 2:
        p /= Dot1AD(vlan=7)
    if tags:
        p /= Dot1Q(vlan=100 + number)
    if version == 4:
        p /= IP(src="10.9.0.1", dst="10.9.0.2", id=(number << 8) + 0xFFFA & 0xFFFF, flags=0 if what == "ufo" else "DF", ttl=61, tos=4)
    else:
        p /= IPv6(src="fd00::1", dst="fd00::2", hlim=61, fl=number)
    if what in ("tso", "tcp"):
        p /= TCP(sport=1000 + number, dport=80, seq=0xFFFFF000, ack=7, flags="CPAF", window=999,
                 options=[("NOP", None), ("NOP", None), ("Timestamp", (5, 6))])
    else:
        p /= UDP(sport=1000 + number, dport=81)
    return p / Raw(data)


def l4(p):
    return p[TCP] if TCP in p else p[UDP]


def make(directory):
    for number, (what, version, tags, payload) in enumerate(cases()):
        p = build(number, what, version, tags, payload)
        whole = bytearray(raw(p))
        start = len(whole) - len(l4(Ether(bytes(whole)))) if what not in ("tso", "uso", "ufo") else raw(p).index(struct.pack("!HH", l4(p).sport, l4(p).dport))
        offset = 16 if TCP in p else 6
        # CHECKSUM_PARTIAL: the sum of the pseudo header is in the field.
        n = len(whole) - start
        addresses = whole[start - 8:start] if version == 4 else whole[start - 32:start]
        pseudo = bytes(addresses) + struct.pack("!HH", 6 if TCP in p else 17, n & 0xFFFF)
        total = sum(struct.unpack("!%dH" % (len(pseudo) // 2), pseudo))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", whole, start + offset, total)
        gso = {"tso": TCP4 if version == 4 else TCP6, "uso": USO, "ufo": UFO}.get(what, NONE)
        header = start + (32 if TCP in p else 8)
        head = struct.pack("<BBHHHHH", 1, gso, header, SIZE if gso else 0, start, offset, 0)
        (directory / f"{number}.frame").write_bytes(head + whole)


def complete(p):
    """p with lengths and checksums as scapy makes them."""
    q = p.copy()
    for layer in (IP, IPv6, TCP, UDP):
        if layer in q:
            for field in ("len", "chksum", "plen"):
                if hasattr(q[layer], field):
                    delattr(q[layer], field)
    return raw(q)


def judge(number, case, got):
    what, version, tags, payload = case
    sent = build(*(number, *case))
    ip = IP if version == 4 else IPv6
    same = [(Ether, "src"), (Ether, "dst"), (Ether, "type")]
    same += [(Dot1Q, "vlan")] * (tags != 0) + [(Dot1AD, "vlan")] * (tags == 2)
    same += [(IP, "ttl"), (IP, "tos"), (IP, "src"), (IP, "dst")] if version == 4 else [(IPv6, "hlim"), (IPv6, "fl"), (IPv6, "src"), (IPv6, "dst")]
    whole = Ether(raw(sent))
    for p in got:
        for layer, field in same:
            assert getattr(p[layer], field) == getattr(whole[layer], field), f"{layer.__name__}.{field}"
    if what == "ufo":
        several = payload + 8 > SIZE
        assert len(got) == -(-(payload + 8) // SIZE), f"{len(got)} fragments"
        for k, p in enumerate(got):
            assert len(p) <= 14 + 8 + 40 + 8 + SIZE
            if several:
                last = k == len(got) - 1
                if version == 4:
                    assert (p[IP].frag * 8, str(p[IP].flags)) == (k * SIZE, "" if last else "MF"), f"fragment {k}"
                else:
                    q = p[IPv6ExtHdrFragment]
                    assert (q.offset * 8, q.m, q.nh) == (k * SIZE, 0 if last else 1, 17), f"fragment {k}"
                    assert q.id == got[0][IPv6ExtHdrFragment].id != 0, "id"
            if version == 4:
                q = p.copy()
                del q[IP].len, q[IP].chksum
                assert raw(q) == raw(p), "IPv4's length or checksum"
                assert p[IP].id == whole[IP].id
            else:
                assert p[IPv6].plen == len(raw(p[IPv6])) - 40
        if several:
            l3 = [p[ip].copy() for p in got]
            whole_again = defragment(l3) if version == 4 else [defragment6(l3)]
            assert len(whole_again) == 1, f"{len(whole_again)} after putting together"
            got = [ip(raw(whole_again[0]))]
        p = got[0][ip]
        assert bytes(p[UDP].payload) == bytes(sent[Raw]), "payload"
        assert p[UDP].len == payload + 8
        check = p[UDP].chksum
        fresh = ip(**{f: getattr(sent[ip], f) for f in ("src", "dst")}) / UDP(sport=p[UDP].sport, dport=p[UDP].dport) / bytes(p[UDP].payload)
        assert ip(raw(fresh))[UDP].chksum == check, "UDP's checksum over the whole datagram"
        return
    for p in got:
        assert complete(p) == raw(p), "lengths or checksums"
    body = b"".join(bytes(l4(p).payload) for p in got)
    assert body == bytes(sent[Raw]), "payload"
    sizes = [len(l4(p).payload) for p in got]
    if what in ("tso", "uso"):
        assert sizes == [SIZE] * (payload // SIZE) + [payload % SIZE] * (payload % SIZE != 0), sizes
    else:
        assert len(got) == 1
    at = 0
    for k, p in enumerate(got):
        if version == 4:
            assert p[IP].id == (whole[IP].id + k) & 0xFFFF, "id"
            assert p[IP].flags == "DF"
        if TCP in p:
            assert p[TCP].seq == (whole[TCP].seq + at) & 0xFFFFFFFF, "seq"
            expected = "A" + ("C" if k == 0 else "") + ("PF" if k == len(got) - 1 else "")
            assert set(str(p[TCP].flags)) == set(expected), f"flags {p[TCP].flags}, not {expected}"
            for field in ("sport", "dport", "ack", "window", "options"):
                assert getattr(p[TCP], field) == getattr(whole[TCP], field), field
        at += sizes[k]


def check(directory):
    everything, frame_count, wrong, complete_ones = b"", 0, 0, 0
    for number, case in enumerate(cases()):
        capture = directory / f"{number}.pcap"
        everything += capture.read_bytes()[24 if everything else 0:]
        got = list(rdpcap(str(capture)))
        frame_count += len(got)
        complete_ones += 1 if case[0] == "ufo" else len(got)
        try:
            judge(number, case, got)
        except AssertionError as e:
            wrong += 1
            print(f"scapy: case {number} {case}: {e}")
    # What was captured, not what scapy made of it. A last fragment has the datagram's checksum in tshark's eyes: "good" once per segment and once per datagram.
    all_of_them = directory / "all.pcap"
    all_of_them.write_bytes(everything)

    def frames(display_filter):
        command = ["tshark", "-n", "-r", str(all_of_them), "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
                   "-o", "udp.check_checksum:TRUE", "-o", "ip.defragment:TRUE", "-o", "ipv6.defragment:TRUE", "-Y", display_filter]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    bad = frames("ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 || "
                 "(_ws.malformed && !tcp && !udp) || "  # random bytes on top of these look like any protocol, and a bad one
                 "ip.fragment.error || ipv6.fragment.error || udp.length.bad")
    for line in bad:
        print("tshark:", line)
    good = len(frames("tcp.checksum.status == 1 || udp.checksum.status == 1"))
    if good != complete_ones:
        print(f"tshark: {good} complete checksums, expected {complete_ones}")
    print(f"{number + 1} cases, {frame_count} frames")
    return 1 if wrong or bad or good != complete_ones else 0


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[2])
    sys.exit(make(where) if sys.argv[1] == "make" else check(where))
