# SPDX-License-Identifier: BSD-2-Clause
"""What is compared with what, and how much nm has to win by. One place; everything else is machinery.

A work is done by nm and by its peers in turn. A row of the table is nm against one peer. Targets are the project's own
(docs/bench.md): they are ratios of medians taken in one run, per placement of the two CPUs.
"""

from dataclasses import dataclass, field

# A frame of 60 bytes costs a line of data and a quarter of a line of slot: the channel's share of the bare-line rate.
LINES_PER_FRAME = 1.25


@dataclass
class Contestant:
    """Something that does the work. `package` is what to install when its program is not there."""

    name: str
    command: list  # the program in the bin directory, then its arguments
    package: str = ""
    scale: float = 1.0  # applied to the rate it reports
    side: str = ""  # in a guest: whose NICs it has, vfio or kernel
    ways: list = field(default_factory=list)  # in a guest: values of --mode, of which the best counts


@dataclass
class Row:
    peer: str
    targets: dict  # placement -> ratio; None where the row is there for information
    better: str = "more"  # "less": the ratio must not exceed the target; "within": at most 25 % from it either way
    ours: str = "nm"  # the other side of the ratio; a peer's name where one baseline is held to another
    work: str = ""  # where it differs from the work's own name
    note: str = ""
    caption: str = ""  # what the picture says of it: only rows that have one are in it

    @property
    def title(self):
        return f"{self.work} vs {self.peer}"


@dataclass
class Work:
    name: str
    unit: str
    contestants: list
    rows: list
    setting: str = "plain"  # plain, veth, linux-bridge, bridge, ovs, guest, boundary, callgrind, compile
    rounds: int = 15
    quick: bool = True  # part of a quick run
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        for row in self.rows:
            row.work = row.work or self.name


def two(near, far=None):
    """Targets by placement. Siblings are nearer than near, so near's target holds there."""
    targets = {"near": near, "sibling": near}
    if far is not None:
        targets["far"] = far
    return targets


def one(ratio):
    return {"one-cpu": ratio}


DPDK = "libdpdk-dev"
XDP = "libxdp-dev libbpf-dev"
INTERFACES = ["--a", "{a}", "--b", "{b}"]


def channel_works():
    return [
        Work(
            "channel 60/60 batch 64", "Mpps",
            [
                Contestant("nm", ["bench-channel", "--work", "frames"]),
                Contestant("DPDK rte_ring + mbuf pool", ["bench-dpdk-channel", "--work", "frames"], DPDK),
                Contestant("line-transfer ceiling", ["bench-ceiling"], scale=1 / LINES_PER_FRAME),
            ],
            [
                Row("DPDK rte_ring + mbuf pool", two(3.0, 2.0), caption="pipe between two threads, frames written and read"),
                Row("line-transfer ceiling", two(0.75, 0.75), note=f"bare lines / {LINES_PER_FRAME}"),
            ],
        ),
        Work(
            "channel slots only batch 64", "Mpps",
            [
                Contestant("nm", ["bench-channel", "--work", "slots"]),
                Contestant("DPDK rte_ring zero-copy", ["bench-dpdk-channel", "--work", "slots"], DPDK),
                Contestant("classic netmap pipe", ["bench-classic-pipe", "--work", "slots"]),
            ],
            [
                Row("DPDK rte_ring zero-copy", two(1.15, 1.15), caption="the same, slots without frames"),
                Row("classic netmap pipe", two(1.5, 1.5)),
                Row("DPDK rte_ring zero-copy", {"near": 779 / 1097}, better="within", ours="classic netmap pipe",
                    work="channel baseline check: classic netmap pipe", note="the baseline's honesty, not nm's speed"),
            ],
        ),
        Work(
            "channel slots only batch 1", "Mpps",
            [
                Contestant("nm", ["bench-channel", "--work", "slots", "--batch", "1"]),
                Contestant("DPDK rte_ring zero-copy", ["bench-dpdk-channel", "--work", "slots", "--batch", "1"], DPDK),
            ],
            [Row("DPDK rte_ring zero-copy", two(3.0), caption="the same, one at a time")],
        ),
    ]


def process_works():
    return [
        Work(
            "process pipe 60/60 batch 64", "Mpps",
            [
                Contestant("nm", ["bench-process", "--work", "frames"]),
                Contestant("DPDK net_memif", ["bench-dpdk-memif"], DPDK),
                Contestant("DPDK net_memif, zero-copy", ["bench-dpdk-memif", "--mode", "zero-copy"], DPDK),
                Contestant("pipe in one process", ["bench-channel", "--work", "frames"]),
            ],
            [
                Row("DPDK net_memif", two(3.0, 3.0), caption="pipe between two processes"),
                Row("DPDK net_memif, zero-copy", two(3.0, 3.0), caption="the same, the peer without copying"),
                Row("pipe in one process", {"near": None}, note="what it costs that nothing is believed"),
            ],
        ),
    ]


def kernel_works():
    return [
        Work(
            "kernel interface, two veth ends, one thread", "Mpps",
            [
                Contestant("nm", ["bench-kernel", "--work", "loop", *INTERFACES], XDP),
                Contestant("AF_PACKET send/recv", ["bench-af-packet", "--work", "loop", *INTERFACES]),
                Contestant("libpcap", ["bench-pcap", "--work", "loop", *INTERFACES], "libpcap-dev"),
                Contestant("AF_XDP by hand", ["bench-xsk", "--work", "loop", *INTERFACES], XDP),
            ],
            [
                Row("AF_PACKET send/recv", one(1.5), caption="kernel interface, sending and receiving"),
                Row("libpcap", one(1.5), caption="kernel interface, sending and receiving"),
                Row("AF_XDP by hand", one(0.95), caption="kernel interface, sending and receiving"),
            ],
            setting="veth", rounds=9,
        ),
        Work(
            "kernel interface, TX only", "Mpps",
            [
                Contestant("nm", ["bench-kernel", "--work", "tx", *INTERFACES], XDP),
                Contestant("AF_PACKET send", ["bench-af-packet", "--work", "tx", *INTERFACES]),
                Contestant("AF_XDP by hand", ["bench-xsk", "--work", "tx", *INTERFACES], XDP),
            ],
            [Row("AF_PACKET send", one(1.7)), Row("AF_XDP by hand", one(0.95))],
            setting="veth", rounds=9,
        ),
        Work(
            "kernel bridge, TCP, default offloads", "Gb/s",
            [
                Contestant("nm", ["bridge", "-i", "netmap:{a}", "-i", "netmap:{b}"]),
                Contestant("AF_PACKET vnet loop", ["bench-af-packet", "--work", "bridge", *INTERFACES]),
            ],
            [Row("AF_PACKET vnet loop", one(0.9), note="iperf3, the slower way", caption="TCP through two kernel interfaces")],
            setting="bridge", rounds=5, options={"offloads": True},
        ),
        Work(
            "kernel bridge, TCP, offloads off", "Gb/s",
            [
                Contestant("nm", ["bridge", "-i", "netmap:{a}", "-i", "netmap:{b}"]),
                Contestant("AF_XDP loop by hand", ["bench-xsk", "--work", "bridge", *INTERFACES], XDP),
            ],
            [Row("AF_XDP loop by hand", one(0.9), note="iperf3, the slower way")],
            setting="bridge", rounds=5, options={"offloads": False},
        ),
    ]


def fused_works():
    def work(name, path):
        return Work(
            f"fused forward, {name}", "instr/packet",
            [
                Contestant("nm", ["bench-fused", "--work", path, "--mode", "nm"]),
                Contestant("loop by hand", ["bench-fused", "--work", path, "--mode", "hand"]),
            ],
            [Row("loop by hand", one(1.02), better="less", note="callgrind, -march=x86-64-v3",
                 caption="forward() from pipe to pipe, instructions" if path == "pipe-pipe" else "")],
            setting="callgrind", rounds=1,
        )

    return [work("pipe to pipe", "pipe-pipe"), work("pipe to null", "pipe-null")]


DPDK_SWITCH = {"copy": "DPDK rings + rte_hash, copy", "swap": "DPDK rings + rte_hash, pointers"}
VALE = "VALE's structure"


def shape_name(ports, stations, batch):
    """At least one station is behind each port."""
    behind = f"{stations} stations" if stations != 1 else "1 station" if ports == 1 else "1 station each"
    return f"{ports} port{'s' if ports != 1 else ''}, {behind}, batch {batch}"


def switch_works():
    def traffic(kind, ports, stations, batch):
        """Targets are for batches of 64; the others are there to be seen."""
        shape = ["--work", kind, "--ports", str(ports), "--stations", str(stations), "--batch", str(batch)]
        name = f"{'copy' if kind == 'copy' else 'zero-copy'}, {shape_name(ports, stations, batch)}"

        def target(ratio):
            return one(ratio if batch == 64 else None)

        peer = DPDK_SWITCH[kind]
        contestants = [Contestant("nm", ["bench-switch", *shape]), Contestant(peer, ["bench-dpdk-switch", *shape], DPDK)]
        caption = f"learning switch, one core, {'copying' if kind == 'copy' else 'zero-copy'}" if (ports, stations, batch) == (8, 256, 64) else ""
        matrix = [Row(peer, target(2.5 if kind == "copy" else 2.3), caption=caption)]
        if kind == "copy":
            contestants.append(Contestant(VALE, ["bench-vale", *shape]))
            matrix.append(Row(VALE, target(2.0), caption=caption))
            if batch == 64:
                matrix.append(Row(peer, one(72 / 58), better="within", ours=VALE, work=f"switch baseline check: VALE's structure, {name}",
                                  note="the baseline's honesty, not nm's speed"))
        return Work(f"switch {name}", "Mpps", contestants, matrix, rounds=9, quick=(ports, stations, batch) == (8, 256, 64))

    simplest = ["--work", "copy", "--ports", "1", "--stations", "1", "--batch", "64"]
    beside = f"switch copy, {shape_name(1, 1, 64)}"

    def growth(what, counts, shape, note):
        """ns per packet, against the smallest."""
        names = [f"{n} {what}" for n in counts]
        return Work(
            f"switch cost by {what}", "ns/packet",
            [Contestant(name, ["bench-switch", "--work", "copy", *shape(n)]) for name, n in zip(names, counts)],
            [Row(names[0], one(None), better="less", ours=name, work=f"switch cost, {name}", note=note) for name in names[1:]],
            rounds=7, quick=False,
        )

    def counted(kind):
        return Contestant(f"nm, {kind}", ["bench-switch-counted", "--work", kind, "--ports", "8", "--stations", "256"])

    return [traffic(kind, ports, stations, batch)
            for kind in ("copy", "swap") for ports in (1, 8) for stations in (1, 256) for batch in (1, 64, 256)] + [
        Work(
            beside, "Mpps",
            [Contestant("nm", ["bench-switch", *simplest]), Contestant("OVS-DPDK NORMAL", [])],
            [Row("OVS-DPDK NORMAL", one(4.0), note="OVS between null devices, one flow: an upper bound", caption="learning switch, one core, copying")],
            setting="ovs", rounds=7, quick=False,
        ),
        Work(
            beside, "Mpps",
            [Contestant("nm", ["bench-switch", *simplest]), Contestant("Linux bridge", ["bench-xsk", "--work", "loop", *INTERFACES], XDP)],
            [Row("Linux bridge", one(None), note="AF_XDP in and out at two veth pairs", caption="learning switch, one core, copying")],
            setting="linux-bridge", rounds=5, quick=False,
        ),
        growth("ports", (2, 8, 64, 254), lambda n: ["--ports", str(n - 1), "--stations", "1024", "--slots", "256"],
               "copy, batch 64, 1024 stations, rings of 256; one of the ports sends"),
        growth("stations", (10, 1000, 100000), lambda n: ["--ports", "8", "--stations", str(n)],
               "copy, batch 64, 8 ports; as many stations behind the sender"),
        Work(
            "switch with 254 ports, one broadcaster", "Mpps",
            [Contestant(name, ["bench-switch", "--work", work, "--ports", "252", "--stations", "252", "--slots", "256"])
             for name, work in (("one broadcaster", "storm"), ("none", "calm"))],
            [Row("none", two(0.9, 0.9), ours="one broadcaster", note="the others' own frames; the broadcaster has the other CPU")],
            rounds=9, quick=False,
        ),
        Work(
            "switch with ten receivers, one stuck", "Mpps",
            [Contestant(name, ["bench-switch", "--work", work, "--ports", "10", "--stations", "10"])
             for name, work in (("one stuck", "stuck"), ("all read", "read"))],
            [Row("all read", one(0.9), ours="one stuck", note="the other nine's frames")],
            rounds=9,
        ),
        Work(
            "switch instructions, 8 ports, 256 stations", "instr/packet",
            [counted("copy"), counted("swap"), Contestant(VALE, ["bench-vale-counted", "--ports", "8", "--stations", "256"])],
            [Row(VALE, one(None), better="less", ours=f"nm, {kind}", work=f"switch instructions, {name}, 8 ports, 256 stations",
                 note="callgrind, -march=x86-64-v3, filling and reading included") for kind, name in (("copy", "copy"), ("swap", "zero-copy"))],
            setting="callgrind", rounds=1, quick=False,
        ),
    ]


AF_PACKET = "AF_PACKET, the best way"


def vfio_works():
    """One guest, one boot. Batches of 1 are there to be seen: the peers' ways that need a batch are not."""
    def work(kind, name, what, batch):
        ends = ["--work", "tx", "--a", "{tx}"] if what == "tx" else ["--work", "loop", *INTERFACES]
        shape = [*ends, "--batch", str(batch)]
        modes = ["send", "mmsg", "v2", "v3", "qdisc"] if batch != 1 else ["send", "v2", "qdisc"]
        title = "tx" if what == "tx" else "two ports, send and receive"
        return Work(
            f"vfio {name} {title}, batch {batch}", "Mpps",
            [
                Contestant("nm", ["bench-nic", "--mode", kind, *shape], side="vfio"),
                Contestant(AF_PACKET, ["bench-packet-nic", *shape], side="kernel", ways=modes),
            ],
            [Row(AF_PACKET, one(3.0 if batch == 64 else None), caption=f"NIC without the kernel, {name}, {'sending' if what == 'tx' else 'two ports'}" if batch == 64 else "")],
            setting="guest", rounds=5, quick=False, options={"nic": kind},
        )

    return [work(kind, name, what, batch) for kind, name in (("e1000", "e1000e"), ("virtio_net", "virtio-net"))
            for what in ("tx", "loop") for batch in (64, 1)]


TWO_PROCESSES = "two processes in the guest"


def boundary_works():
    """Between a guest and the host, one boot; then what the guest's loops cost, and a switch that is in a third process."""
    def between(title, ours, peers, batch):
        shape = ["--batch", str(batch)]
        modes = ["mmsg", "v2", "v3"] if batch != 1 else ["send", "v2"]
        beside = ours == "to-host"  # once is enough
        return Work(
            f"guest {title}, batch {batch}", "Mpps",
            [
                Contestant("nm", ["bench-ptnet", "--work", ours, "--a", "{ptnet}", *shape], side="ptnet"),
                Contestant(AF_PACKET, ["bench-packet-nic", "--work", peers, "--a", "{tap}", *shape], side="tap", ways=modes),
                *[Contestant(TWO_PROCESSES, ["bench-ptnet", "--work", "processes", *shape], side="ptnet")][:beside],
            ],
            [Row(AF_PACKET, one(20.0 if batch > 1 else None), caption=title.replace("to", "guest to").replace("from", "guest from") if batch == 32 else ""), *[Row(TWO_PROCESSES, one(None))][:beside]],
            setting="boundary", rounds=5, quick=False,
        )

    def round_trip(title, work):
        return Work(
            f"guest round trip, {title}", "us",
            [
                Contestant("nm", ["bench-ptnet", "--work", work, "--a", "{ptnet}"], side="ptnet"),
                Contestant("virtio-net, TAP, AF_PACKET", ["bench-packet-nic", "--work", work, "--a", "{tap}"], side="tap"),
            ],
            [Row("virtio-net, TAP, AF_PACKET", one(None), better="less")],
            setting="boundary", rounds=5, quick=False,
        )

    def counted(work):
        return Work(
            f"guest instructions, {work}", "instr/packet",
            [Contestant(name, ["bench-boundary", "--work", work, "--mode", mode]) for name, mode in (("nm", "guest"), ("a pipe between two processes", "pipe"))],
            [Row("a pipe between two processes", one(1.1), better="less", note="callgrind, -march=x86-64-v3, batch 64, filling and reading included")],
            setting="callgrind", rounds=1,
        )

    def switch(batch):
        shape = ["--batch", str(batch)]
        return Work(
            f"process switch, three processes, batch {batch}", "Mpps",
            [
                Contestant("nm", ["bench-process-switch", *shape]),
                Contestant("switch in one process", ["bench-switch", "--work", "copy", *shape]),
            ],
            [Row("switch in one process", one(None), note="its own: there is no peer for three processes; three of them on two CPUs, which sleep")],
            rounds=7, quick=False,
        )

    return [
        *[between("to host", "to-host", "tx", batch) for batch in (1, 32, 256)],
        *[between("from host", "from-host", "from-host", batch) for batch in (1, 32, 256)],
        round_trip("polling", "poll"), round_trip("sleeping", "sleep"),
        *[counted(work) for work in ("generate", "drain", "forward")],
        *[switch(batch) for batch in (64, 256)],
    ]


def header_works():
    def work(header, budget):
        return Work(
            f"header cost, <{header}>", "s",
            [Contestant("nm", [header]), Contestant("budget", [])],
            [Row("budget", one(1.0), better="less", note="g++ -O0, one translation unit")],
            setting="compile", rounds=3, options={"budget": budget},
        )

    return [work("nm/nm.hpp", 1.0), work("nm/ring.hpp", 0.3)]


def all_works():
    return channel_works() + process_works() + switch_works() + kernel_works() + vfio_works() + boundary_works() + fused_works() + header_works()
