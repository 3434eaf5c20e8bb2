# SPDX-License-Identifier: BSD-2-Clause
"""Open vSwitch on DPDK, started for one work: NORMAL from one null device to another, one thread. The frames cost next to
nothing to make and are never read, and all belong to one flow: an upper bound of what it forwards."""

import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from shutil import which

PACKAGE = "openvswitch-switch-dpdk"
EAL = "--no-pci --no-telemetry"
NO_HUGE = "--no-huge --legacy-mem -m 1024 "  # to all else OVS adds --in-memory, which does not go with --no-huge
HUGEPAGES_KB = 1 << 20  # that its pools want


def eal_arguments(meminfo):
    """Hugepages where the machine has enough of them: without, a quarter of its rate is lost."""
    fields = {k: int(v) for k, v in re.findall(r"^(\w+):\s+(\d+)", meminfo, re.M)}
    enough = fields.get("HugePages_Free", 0) * fields.get("Hugepagesize", 0) >= HUGEPAGES_KB
    return EAL if enough else NO_HUGE + EAL


def found():
    """Where the package has its files, beside a PATH that has its ovsdb-tool."""
    tool = which("ovsdb-tool")
    prefix = Path(tool).parents[1] if tool else None
    if prefix is None or not (prefix / "lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk").exists():
        return None
    return prefix


class Ovs:
    """Needs a namespace: a bridge of OVS always has a TAP interface of its own name. Between samples the daemon is
    stopped, since its thread never sleeps."""

    def __init__(self, prefix, inside, cpus):
        self.prefix, self.inside = prefix, inside
        self.main_cpu, self.cpu = (int(c) for c in cpus.split(","))
        self.processes = []
        self.directory = tempfile.TemporaryDirectory(prefix="nmbench-ovs-")

    def __enter__(self):
        try:
            self.start()
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.directory.cleanup()

    def path(self, name):
        return str(Path(self.directory.name, name))

    def here(self, *command):
        """In the namespace, with nothing of an OVS that may be running on this machine."""
        return [*self.inside, "env", *[f"OVS_{n}DIR={self.directory.name}" for n in ("RUN", "LOG", "DB", "SYSCONF")], *command]

    def run(self, *command):
        done = subprocess.run(self.here(*command), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise RuntimeError(f"{Path(command[0]).name}: {lines[-1]}{self.last_words()}")
        return done.stdout

    def last_words(self):
        log = Path(self.path("log"))
        lines = [line for line in log.read_text().splitlines() if "|EMER|" in line or "|ERR|" in line] if log.exists() else []
        return f" (ovs-vswitchd: {lines[-1]})" if lines else ""

    def spawn(self, *command):
        self.processes.append(subprocess.Popen(self.here(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def control(self, *command):
        return self.run("ovs-vsctl", f"--db=unix:{self.path('db')}", "--timeout=20", *command)

    def ask(self, *command):
        return self.run("ovs-appctl", "-t", self.path("control"), *command)

    def start(self):
        database = self.path("conf.db")
        self.run("ovsdb-tool", "create", database, str(self.prefix / "share/openvswitch/vswitch.ovsschema"))
        self.spawn(str(self.prefix / "sbin/ovsdb-server"), database, f"--remote=punix:{self.path('db')}", "--no-chdir", "-vconsole:off")
        self.wait_for("db")
        self.control("--no-wait", "init")
        self.control("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true", f"other_config:dpdk-extra=\"{eal_arguments(Path('/proc/meminfo').read_text())}\"",
                     f"other_config:pmd-cpu-mask={1 << self.cpu:#x}", f"other_config:dpdk-lcore-mask={1 << self.main_cpu:#x}")
        self.spawn(str(self.prefix / "lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"), f"unix:{self.path('db')}", "--no-chdir",
                   f"--unixctl={self.path('control')}", f"--log-file={self.path('log')}", "-vconsole:off")
        self.wait_for("control")
        self.control("add-br", "nmbench", "--", "set", "bridge", "nmbench", "datapath_type=netdev")
        for port, options in (("in", "net_null0,size=60,copy=0"), ("out", "net_null1,size=60,copy=0,no-rx=1")):
            self.control("add-port", "nmbench", port, "--", "set", "Interface", port, "type=dpdk", f"options:dpdk-devargs=\"{options}\"")
        # A null device's frames are all zeros: the station 0 must be behind the other port, or they would be dropped.
        self.ask("fdb/add", "nmbench", "out", "0", "00:00:00:00:00:00")
        time.sleep(1)
        flows = self.ask("dpctl/dump-flows", "netdev@ovs-netdev")
        if not re.search(r"actions:\d+\s*$", flows, re.M):
            raise RuntimeError(f"OVS does not forward: {flows.strip()}")
        self.pause()

    def wait_for(self, socket):
        for _ in range(100):
            if self.processes[-1].poll() is not None:
                break
            if Path(self.path(socket)).exists():
                return
            time.sleep(0.1)
        raise RuntimeError(f"{PACKAGE}: the daemon with the socket {socket} did not start{self.last_words()}")

    def pause(self):
        self.processes[-1].send_signal(signal.SIGSTOP)

    def counted(self):
        return packets_of(self.ask("dpif-netdev/pmd-stats-show")), time.monotonic()

    def sample(self, seconds):
        """Packets per second, and which part of a CPU its thread had."""
        self.processes[-1].send_signal(signal.SIGCONT)
        time.sleep(0.1)
        (before, start), busy = self.counted(), self.thread_seconds()
        time.sleep(seconds)
        (after, end), still_busy = self.counted(), self.thread_seconds()
        self.pause()
        return (after - before) / (end - start), (still_busy - busy) / (end - start)

    def thread_seconds(self):
        """CPU time of the thread that forwards. `ip netns exec` and `env` are replaced by what they run."""
        for task in Path(f"/proc/{self.processes[-1].pid}/task").iterdir():
            if (task / "comm").read_text().startswith("pmd"):
                return int((task / "schedstat").read_text().split()[0]) * 1e-9
        raise RuntimeError("OVS has no thread that polls")


def packets_of(text):
    """What all threads but the main one have received."""
    return sum(int(n) for n in re.findall(r"^pmd thread.*?packets received: (\d+)", text, re.M | re.S))
