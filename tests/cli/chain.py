# SPDX-License-Identifier: BSD-2-Clause
"""A capture of real protocols, and what becomes of it when several programs have had parts of it.

chain.py make FILE FLOWS            FILE: the capture; FLOWS: for each frame, to which flow it belongs
chain.py check FILE FLOWS PART...   the parts together are FILE, frame for frame; each flow is in one of them, and in order
chain.py count FILE...              how many frames there are in all files together
"""
import collections
import json
import sys

import captures

NOBODY = "02:00:00:00:ff:ff"  # sends nothing, so a switch that learns does not know where it is


def make(path, flows_path):
    import logging

    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
    from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
    from scapy.packet import Raw
    from scapy.utils import PcapWriter

    serial = 0

    def payload(length):
        nonlocal serial
        serial += 1
        return Raw(serial.to_bytes(8, "big") + bytes((serial + i) & 255 for i in range(length - 8)))

    def mac(side, i):
        return f"02:00:00:{side:02x}:{i >> 8:02x}:{i & 255:02x}"

    def tags(i):
        if i % 3 == 1:
            return Dot1Q(vlan=1 + i % 100)
        if i % 3 == 2:
            return Dot1AD(vlan=7) / Dot1Q(vlan=1 + i % 100)
        return None

    def wrapped(i, side, inner):
        ether, tag = Ether(src=mac(side, i), dst=NOBODY), tags(i)
        return ether / tag / inner if tag is not None else ether / inner

    out = []  # (flow, frame)
    for i in range(120):
        ports = {"sport": 1024 + i * 13, "dport": 80 + i % 3}
        back = {"sport": ports["dport"], "dport": ports["sport"]}
        a4, b4 = f"10.0.{i // 200}.{1 + i % 200}", f"192.168.7.{1 + i % 50}"
        a6, b6 = f"fd00::{i + 1:x}", f"fd00:1::{1 + i % 50:x}"
        kind = i % 5
        flow = []
        if kind == 0:  # TCP, a connection in both directions
            flow.append(wrapped(i, 1, IP(src=a4, dst=b4) / TCP(**ports, flags="S", options=[("MSS", 1460)])))
            flow.append(wrapped(i, 2, IP(src=b4, dst=a4) / TCP(**back, flags="SA")))
            for n in range(8):
                flow.append(wrapped(i, 1, IP(src=a4, dst=b4) / TCP(**ports, flags="PA", seq=n * 1400) / payload(1400)))
                flow.append(wrapped(i, 2, IP(src=b4, dst=a4) / TCP(**back, flags="A", ack=n * 1400) / payload(20)))
        elif kind == 1:  # UDP, some of it in fragments
            for n in range(10):
                there = IP(src=a4, dst=b4, id=i * 16 + n) / UDP(**ports) / payload(60 if n % 2 else 4000)
                flow += [wrapped(i, 1, part) for part in fragment(there, fragsize=1400)]
                flow.append(wrapped(i, 2, IP(src=b4, dst=a4) / UDP(**back) / payload(100)))
        elif kind == 2:  # IPv6: TCP, UDP behind an extension header
            for n in range(8):
                flow.append(wrapped(i, 1, IPv6(src=a6, dst=b6) / TCP(**ports, flags="PA", seq=n) / payload(200)))
                flow.append(wrapped(i, 2, IPv6(src=b6, dst=a6) / TCP(**back, flags="A", ack=n) / payload(20)))
        elif kind == 3:  # IPv6 fragments, options, ICMPv6
            for n in range(4):
                there = IPv6(src=a6, dst=b6) / IPv6ExtHdrFragment(id=i * 16 + n) / UDP(**ports) / payload(3000)
                flow += [wrapped(i, 1, part) for part in fragment6(there, 1280)]
                flow.append(wrapped(i, 1, IPv6(src=a6, dst=b6) / IPv6ExtHdrDestOpt() / UDP(**ports) / payload(64)))
                flow.append(wrapped(i, 2, IPv6(src=b6, dst=a6) / UDP(**back) / payload(64)))
            out += [(f"icmp6 {i}", wrapped(i, 1, IPv6(src=a6, dst=b6) / ICMPv6EchoRequest(id=i, seq=n, data=b"ping"))) for n in range(3)]
        else:  # ARP, ICMP, one frame longer than a buffer
            out += [(f"arp {i}", Ether(src=mac(1, i), dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac(1, i), psrc=a4, pdst=f"10.1.{n}.1")) for n in range(5)]
            out += [(f"icmp {i}", wrapped(i, 1, IP(src=a4, dst=b4) / ICMP(id=i, seq=n) / payload(56))) for n in range(5)]
            flow.append(wrapped(i, 1, IP(src=a4, dst=b4) / UDP(**ports) / payload(5000)))
        out += [(f"flow {i}", f) for f in flow]
    # Mixed as on a wire: each flow in its order.
    queues = collections.defaultdict(collections.deque)
    for flow, f in out:
        queues[flow].append(f)
    mixed = []
    while queues:
        for flow in list(queues):
            mixed.append((flow, queues[flow].popleft()))
            if not queues[flow]:
                del queues[flow]
    with PcapWriter(path, nano=True, linktype=1, sync=False) as writer:
        for n, (flow, f) in enumerate(mixed):
            f.time = 1_700_000_000 + n / 1_000_000
            writer.write(f)
    json.dump([flow for flow, _ in mixed], open(flows_path, "w"))
    print(len(mixed))


def check(path, flows_path, parts):
    wanted = [data for _, data, _ in captures.read(path)]
    flows = json.load(open(flows_path))
    assert len(wanted) == len(flows) and len(set(wanted)) == len(wanted), "the capture does not tell its frames apart"
    number = {data: n for n, data in enumerate(wanted)}
    flow_of = dict(zip(wanted, flows))
    where = {}
    seen = collections.Counter()
    for part in parts:
        last = {}
        frames = captures.read(part)
        for _, data, length in frames:
            assert length == len(data)
            assert data in number, f"{part} has a frame that was not sent: {data[:64].hex()}"
            seen[data] += 1
            flow = flow_of[data]
            assert where.setdefault(flow, part) == part, f"{flow} is in {where[flow]} and in {part}"
            assert last.get(flow, -1) < number[data], f"{flow} is out of order in {part}"
            last[flow] = number[data]
        assert frames, f"{part} has got nothing"
    missing = [flow_of[d] for d in wanted if seen[d] != 1]
    assert not missing, f"{len(missing)} frames are not there once: {missing[:10]}"
    print(f"{len(wanted)} frames of {len(where)} flows:", ", ".join(str(len(captures.read(p))) for p in parts))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    elif sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3], sys.argv[4:])
    elif sys.argv[1] == "count":
        print(sum(len(captures.read(p)) for p in sys.argv[2:]))
