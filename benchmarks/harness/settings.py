# SPDX-License-Identifier: BSD-2-Clause
"""How one sample is taken in each setting. A setting is a context manager whose `sample(contestant)` returns a Sample."""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from shutil import which

from . import boundary, guest, net, ovs
from .evaluate import Sample

ROOT = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """A contestant or a whole work cannot run here; the text says why and what to do."""


def output_of(command, timeout=60):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{Path(command[0]).name} did not end within {timeout} s") from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        raise Unavailable(f"{' '.join(Path(c).name if '/' in c else c for c in command[:4])}: {lines[-1]}")
    return done


class Plain:
    """A sample program that measures itself and prints one line."""

    def __init__(self, work, where):
        self.work, self.where = work, where

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def program(self, contestant):
        path = self.where.bin / contestant.command[0]
        if not path.exists():
            hint = f" (apt-get install {contestant.package}, configure and build again)" if contestant.package else ""
            raise Unavailable(f"{contestant.command[0]} is not built{hint}")
        return str(path)

    def command(self, contestant, **names):
        return [self.program(contestant), *[c.format(**names) for c in contestant.command[1:]]]

    def parse(self, contestant, text):
        line = json.loads(text.strip().splitlines()[-1])
        rate = line["rate"] * contestant.scale
        return Sample(contestant.name, line["placement"], 1e9 / rate if self.work.unit == "ns/packet" else rate)

    def sample(self, contestant):
        command = [*self.command(contestant), "--seconds", str(self.where.seconds), "--cpus", self.where.cpus]
        return self.parse(contestant, output_of(command).stdout)


class Veth(Plain):
    """The same between two ends of a veth pair in a namespace of its own, offloads off so that AF_XDP is safe."""

    def __enter__(self):
        if reason := net.why_not():
            raise Unavailable(reason)
        self.net = net.Namespaces("v")
        self.net.__enter__()
        try:
            self.join_ends()
            if which("ethtool"):
                for interface in ("bench0", "bench1"):
                    self.net.offloads_off(0, interface)
            time.sleep(0.2)
        except Exception:
            self.net.__exit__()
            raise
        return self

    def join_ends(self):
        self.net.veth(0, "bench0", 0, "bench1")

    def __exit__(self, *_):
        self.net.__exit__()

    def sample(self, contestant):
        command = [*self.net.inside(0), *self.command(contestant, a="bench0", b="bench1"), "--seconds", str(self.where.seconds)]
        return self.parse(contestant, output_of(command).stdout)


class LinuxBridge(Veth):
    """The two ends are not of one pair: the kernel's bridge is between them, and knows behind which one the frames'
    destination is, so that it floods nothing."""

    def join_ends(self):
        name = self.net.names[0]
        net.run("ip", "-n", name, "link", "add", "nmbridge", "type", "bridge")
        net.run("ip", "-n", name, "link", "set", "nmbridge", "up")
        for n in range(2):
            self.net.veth(0, f"bench{n}", 0, f"mid{n}")
            net.run("ip", "-n", name, "link", "set", f"mid{n}", "master", "nmbridge")
        net.run("bridge", "-n", name, "fdb", "replace", "02:00:00:00:00:02", "dev", "mid1", "master", "static")


class OvsDpdk(Plain):
    """Beside Open vSwitch on DPDK, which is a daemon and not a program that measures itself."""

    def __enter__(self):
        if reason := net.why_not():
            raise Unavailable(reason)
        prefix = ovs.found()
        if prefix is None:
            raise Unavailable(f"package {ovs.PACKAGE} not installed (apt-get install {ovs.PACKAGE})")
        self.net = net.Namespaces("o")
        self.net.__enter__()
        try:
            self.ovs = ovs.Ovs(prefix, self.net.inside(0), self.where.cpus)
            self.ovs.__enter__()
        except Exception:
            self.net.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.ovs.__exit__()
        self.net.__exit__()

    def sample(self, contestant):
        if contestant.command:
            return super().sample(contestant)
        rate, cpus = self.ovs.sample(5 * self.where.seconds)
        return Sample(contestant.name, "one-cpu" if cpus > 0.97 else "disturbed", rate)


class Bridge(Plain):
    """Two namespaces joined only by the contestant, which runs in a third: iperf3 one way, then the other. The rate is
    that of the slower way."""

    def __enter__(self):
        if reason := net.why_not():
            raise Unavailable(reason)
        if which("iperf3") is None:
            raise Unavailable("needs iperf3 (apt-get install iperf3)")
        if not self.work.options["offloads"] and which("ethtool") is None:
            raise Unavailable("needs ethtool (apt-get install ethtool)")
        self.net = net.Namespaces("l", "m", "r")
        self.net.__enter__()
        try:
            self.net.veth(0, "end0", 1, "mid0")
            self.net.veth(2, "end1", 1, "mid1")
            for n, address in ((0, "10.97.0.1/24"), (2, "10.97.0.2/24")):
                net.run("ip", "-n", self.net.names[n], "addr", "add", address, "dev", "end0" if n == 0 else "end1")
            if not self.work.options["offloads"]:
                for n, interface in ((0, "end0"), (1, "mid0"), (1, "mid1"), (2, "end1")):
                    self.net.offloads_off(n, interface)
        except Exception:
            self.net.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.net.__exit__()

    def sample(self, contestant):
        command = [*self.net.inside(1), *self.command(contestant, a="mid0", b="mid1")]
        with tempfile.TemporaryFile("w+") as log:
            bridge = subprocess.Popen(command, stdout=log, stderr=log)
            server = subprocess.Popen([*self.net.inside(2), "iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self.wait_until_open(bridge, log, contestant)
                return Sample(contestant.name, "one-cpu", min(self.iperf(), self.iperf("-R")))
            finally:
                for process in (server, bridge):
                    process.terminate()
                for process in (server, bridge):
                    try:
                        process.wait(5)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
                time.sleep(0.1)

    def wait_until_open(self, bridge, log, contestant):
        for _ in range(20):
            ping = [*self.net.inside(0), "ping", "-c", "1", "-W", "0.2", "-q", "10.97.0.2"]
            if subprocess.run(ping, capture_output=True, check=False).returncode == 0:
                return
            if bridge.poll() is not None:
                break
        log.seek(0)
        lines = log.read().strip().splitlines()
        raise Unavailable(f"{contestant.name}: no ping through {contestant.command[0]}" + (f" ({lines[-1]})" if lines else ""))

    def iperf(self, *way):
        client = [*self.net.inside(0), "iperf3", "-c", "10.97.0.2", "-J", "-t", str(self.where.iperf_seconds), *way]
        answer = json.loads(output_of(client, timeout=20).stdout)
        if "sum_received" not in answer.get("end", {}):
            raise Unavailable(f"iperf3: {answer.get('error', 'no result')}")
        return answer["end"]["sum_received"]["bits_per_second"]


class Guest(Plain):
    """In a guest, together with all other works that are: who comes first has it booted, all take what it brought."""

    NAME, SCENARIO = "boot", staticmethod(guest.scenario)

    def booted(self):
        if not hasattr(self.where, self.NAME):
            for contestant in self.work.contestants:
                self.program(contestant)
            works, rounds = zip(*((w, n) for w, n in self.where.guest_works if w.setting == self.work.setting))
            setattr(self.where, self.NAME, guest.Boot(works, max(rounds), self.where, self.SCENARIO))
        return getattr(self.where, self.NAME)

    def __enter__(self):
        boot = self.booted()
        if boot.reason:
            raise Unavailable(boot.reason)
        self.left = {}
        for contestant in self.work.contestants:
            rates, note, reason = boot.take(self.work, contestant)
            self.left[contestant.name] = iter(rates), reason
            for row in self.work.rows:
                if row.peer == contestant.name:
                    row.note = note
        return self

    def sample(self, contestant):
        rates, reason = self.left[contestant.name]
        for rate in rates:
            return Sample(contestant.name, "one-cpu", rate)
        raise Unavailable(reason)


class Boundary(Guest):
    """Between a guest and the host. What nm's program said of its last sample is worth a note."""

    NAME, SCENARIO = "boundary_boot", staticmethod(boundary.scenario)

    def __enter__(self):
        super().__enter__()
        said = [f"{c.name}: {text}" for c in self.work.contestants if (text := self.booted().remarks.get((self.work.name, c.name))) and not c.ways]
        for row in self.work.rows:
            row.note = "; ".join(filter(None, [*said, row.note]))
        return self


class Callgrind(Plain):
    """Instructions per packet: the difference between two runs of N and 2N packets, so that
    start-up does not count; only the function measured() is collected."""

    PACKETS = 65536

    def __enter__(self):
        if which("valgrind") is None:
            raise Unavailable("needs valgrind (apt-get install valgrind)")
        return self

    def instructions(self, contestant, packets):
        command = ["valgrind", "--tool=callgrind", "--fair-sched=yes", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*", *self.command(contestant), "--packets", str(packets)]
        found = re.search(r"Collected : (\d+)", output_of(command, timeout=120).stderr)
        if found is None:
            raise Unavailable("callgrind said nothing of instructions")
        return int(found.group(1))

    def sample(self, contestant):
        self.program(contestant)
        more, fewer = (self.instructions(contestant, n * self.PACKETS) for n in (2, 1))
        return Sample(contestant.name, "one-cpu", (more - fewer) / self.PACKETS)


class Compile(Plain):
    """CPU seconds that one header costs a translation unit at -O0."""

    def __enter__(self):
        self.compiler = os.environ.get("CXX", "g++")
        if which(self.compiler) is None:
            raise Unavailable(f"needs {self.compiler}")
        return self

    def sample(self, contestant):
        if contestant.name == "budget":
            return Sample(contestant.name, "one-cpu", self.work.options["budget"])
        header = contestant.command[0]
        if not (ROOT / "include" / header).exists():
            raise Unavailable(f"there is no <{header}>")
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch, "unit.cpp")
            source.write_text(f"#include <{header}>\nint main() {{}}\n")
            command = [self.compiler, "-std=c++20", "-O0", f"-I{ROOT / 'include'}", "-c", str(source), "-o", str(Path(scratch, "unit.o"))]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            output_of(command)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return Sample(contestant.name, "one-cpu", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


DROPPED = {
    "moved": "the hypervisor moved the CPUs under them",
    "disturbed": "other programs had part of the CPUs",
}
SETTINGS = {"plain": Plain, "veth": Veth, "bridge": Bridge, "linux-bridge": LinuxBridge, "ovs": OvsDpdk, "guest": Guest, "boundary": Boundary, "callgrind": Callgrind, "compile": Compile}


def take(work, where, rounds, deadline=None, say=lambda text: print(text, file=sys.stderr)):
    """Samples of every contestant, A B C A B C, until each has `rounds` of them; dropped samples are taken again, up to
    as many more rounds. Returns the samples, the reasons for those that could not run, by name ("" for the whole work),
    and how many were dropped, by why."""
    samples, reasons, dropped = [], {}, Counter()
    counts = Counter()
    try:
        with SETTINGS[work.setting](work, where) as setting:
            for n in range(2 * rounds):
                missing = [c for c in work.contestants if counts[c.name] < rounds and c.name not in reasons]
                if not missing or (deadline and n and time.monotonic() > deadline):
                    break
                for contestant in missing:
                    try:
                        sample = setting.sample(contestant)
                    except Unavailable as e:
                        reasons[contestant.name] = str(e)
                        continue
                    if sample.placement in DROPPED:
                        dropped[sample.placement] += 1
                    else:
                        samples.append(sample)
                        counts[contestant.name] += 1
                say(f"{work.name}: {n + 1}/{rounds}")
    except (Unavailable, RuntimeError) as e:
        reasons[""] = str(e)
    return samples, reasons, dropped
