# SPDX-License-Identifier: BSD-2-Clause
"""Works on NICs, which are QEMU's: one guest (tests/vm) takes all samples of all these works in one boot, in turn. Of each
kind of NIC there are two sets that are alike, one for VFIO and one for the kernel's driver, so that no device changes hands:
two on a hub, and one whose frames go nowhere."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

RUN = Path(__file__).resolve().parents[2] / "tests" / "vm" / "run"

# What a program calls the kind: QEMU's device and its options, the kernel's module.
KINDS = {
    "e1000": ("e1000e", "", "e1000e"),
    "virtio_net": ("virtio-net-pci", ",disable-legacy=on,iommu_platform=on", "virtio_net"),
}
SAMPLE_SECONDS = 20  # at most; one takes less than a second
BUSY = 2.5  # a load average: the guest's processor and its devices are two threads

HEAD = """# SPDX-License-Identifier: BSD-2-Clause
#: kernel full
#: memory 512
#: hugepages 32
#: timeout {seconds}
#: tools {programs}
"""
SCRIPT = """
up() {{
    i=$(interface "$1")
    echo 1 >"/proc/sys/net/ipv6/conf/$i/disable_ipv6" 2>/dev/null || true
    ip link set "$i" up
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ "$(cat "/sys/class/net/$i/carrier")" = 1 ] && break
        usleep 500000
    done
    echo "$i"
}}
sample() {{
    number=$1
    shift
    echo "SAMPLE $number $(timeout {limit} "$@" 2>&1 | tail -n 1)"
}}
"""


class Nics:
    """Where the NICs of some kinds are: their lines for QEMU, and names for the works, {a} {b} {tx} by side."""

    def __init__(self, kinds):
        self.qemu, self.names, self.addresses, self.hub = [], {}, defaultdict(list), 0
        place = 4
        for kind in kinds:
            device, options, _ = KINDS[kind]
            for side in ("vfio", "kernel"):
                for name, mac in (("a", 1), ("b", 2), ("tx", 3)):
                    address = f"0000:00:{place:02x}.0"
                    line = f"-device {device},addr={place:x},mac=02:00:00:00:00:{mac:02x}{options}"
                    if name != "tx":
                        line = f"-netdev hubport,id=h{place:x},hubid={self.hub} {line},netdev=h{place:x}"
                    self.qemu.append(line)
                    self.names[kind, side, name] = address if side == "vfio" else f"${kind}_{name}"
                    self.addresses[side].append((kind, name, address))
                    place += 1
                self.hub += 1

    def script(self):
        lines = [f"modprobe {KINDS[kind][2]}" for kind in dict.fromkeys(kind for kind, _, _ in self.addresses["kernel"])]
        lines += ["vfio " + " ".join(address for _, _, address in self.addresses["vfio"])]
        return lines + [f"{kind}_{name}=$(up {address})" for kind, name, address in self.addresses["kernel"]]


def ways(contestant):
    """The arguments of each way in which a contestant may do the work: the peers' best counts."""
    return contestant.ways or [""]


def plan(works):
    """[(work, contestant, way)] of one round: what is compared is taken one after the other."""
    return [(work, c, way) for work in works for c in work.contestants for way in ways(c)]


def scenario(works, rounds, seconds):
    """The scenario for tests/vm/run, and the round's plan: sample number i is that of plan[i % len(plan)]."""
    turns = plan(works)
    nics = Nics(dict.fromkeys(work.options["nic"] for work in works))
    lines = [f"#: qemu {line}" for line in nics.qemu] + [SCRIPT.format(limit=SAMPLE_SECONDS)] + nics.script()
    for number in range(rounds * len(turns)):
        work, contestant, way = turns[number % len(turns)]
        kind, side = work.options["nic"], contestant.side
        names = {name: nics.names[kind, side, name] for name in ("a", "b", "tx")}
        words = [*[word.format(**names) for word in contestant.command], *(["--mode", way] if way else [])]
        lines.append(f"sample {number} {' '.join(words)} --seconds {seconds}")
    lines.append("step samples true")
    programs = " ".join(dict.fromkeys(contestant.command[0] for _, contestant, _ in turns))
    return HEAD.format(seconds=60 + 3 * rounds * len(turns), programs=programs) + "\n".join(lines) + "\n", turns


def results(text, turns):
    """({(work, contestant): {way: [rates]}}, {(work, contestant): reason}) of what the guest printed."""
    rates, reasons = defaultdict(lambda: defaultdict(list)), {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        number, _, said = rest.partition(" ")
        if word != "SAMPLE" or not number.isdigit():
            continue
        work, contestant, way = turns[int(number) % len(turns)]
        try:
            rate = json.loads(said)["rate"]
            rates[work.name, contestant.name][way].append(rate)
        except (ValueError, KeyError, TypeError):
            reasons[work.name, contestant.name] = f"{contestant.name} {way}".strip() + f": {said.strip() or 'said nothing'}"
    return {key: dict(value) for key, value in rates.items()}, reasons


def remarks(text, turns):
    """{(work, contestant): what it said of its last sample}"""
    said = {}
    for line in text.splitlines():
        found = re.match(r"SAMPLE (\d+) (\{.*\})$", line)
        if found and (note := json.loads(found[2]).get("note")):
            work, contestant, _ = turns[int(found[1]) % len(turns)]
            said[work.name, contestant.name] = note
    return said


def best(by_way):
    """The rates of the way with the highest median, and a text that names all. One that failed now and then is none."""
    most = max(map(len, by_way.values()))
    medians = {way: median(rates) for way, rates in by_way.items() if len(rates) == most}
    way = max(medians, key=medians.get)
    text = ", ".join(f"{w} {medians[w] / 1e3:.3g}" for w in sorted(medians, key=medians.get, reverse=True))
    return by_way[way], f"{way} is the best of (kpps): {text}"


class Boot:
    """The samples of one boot, to be had one at a time."""

    def __init__(self, works, rounds, where, scenario=scenario):
        self.reason, self.rates, self.reasons, self.busy = "", {}, {}, ""
        text, turns = scenario(works, rounds, where.seconds)
        samples = rounds * len(turns)
        with tempfile.TemporaryDirectory(prefix="nm-bench-") as folder:
            path = Path(folder, "nics")
            path.write_text(text)
            command = [sys.executable, str(RUN), "--bin", str(where.bin), "--out", str(Path(folder, "out")), str(path)]
            # A kernel may have to be fetched first.
            environment = dict(os.environ, NM_BIN=str(where.bin))
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
            try:
                said = process.communicate(timeout=900 + 3 * samples)[0]
            except BaseException as error:
                process.terminate()  # it ends its guest
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                said = "the guest did not end in time"
            output = Path(folder, "out", "nics", "output.txt")
            printed = output.read_text(errors="replace") if output.exists() else ""
        self.rates, self.reasons = results(printed, turns)
        self.remarks = remarks(printed, turns)
        load = os.getloadavg()[0]
        self.busy = f"; the load was {load:.1f}: repeat it when the machine is quiet" if load > BUSY else ""
        if process.returncode != 0 and not self.rates:
            self.reason = self.why(process.returncode, said)

    @staticmethod
    def why(code, said):
        lines = said.strip().splitlines() or [f"tests/vm/run: exit code {code}"]
        return next((line for line in lines if line.startswith("skipped:") or "INFRASTRUCTURE" in line), lines[-1])

    def take(self, work, contestant):
        """(rates, note, why there are not more)"""
        key = work.name, contestant.name
        reason = self.reason or self.reasons.get(key) or f"the guest ended before {contestant.name} had its turn"
        by_way = self.rates.get(key)
        if not by_way:
            return [], "", reason
        if not contestant.ways:
            return by_way[""], "", reason
        rates, note = best(by_way)
        return rates, note + self.busy, reason
