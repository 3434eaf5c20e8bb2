# SPDX-License-Identifier: BSD-2-Clause
"""Network namespaces with veth pairs in them, made for one work and removed whatever happens. Nothing outside them is
touched."""

import os
import subprocess
from shutil import which

OFFLOADS = "tx rx sg tso gso gro rxvlan txvlan".split()


def why_not():
    if os.geteuid() != 0:
        return "needs root (network namespaces, AF_PACKET, AF_XDP): run compare with sudo"
    if which("ip") is None:
        return "needs ip (apt-get install iproute2)"
    return ""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Namespaces:
    def __init__(self, *names):
        self.names = [f"nmbench{os.getpid()}{n}" for n in names]

    def __enter__(self):
        made = []
        try:
            for name in self.names:
                run("ip", "netns", "add", name)
                made.append(name)
                for which_ones in ("all", "default"):  # no neighbour discovery among the samples
                    run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{which_ones}.disable_ipv6=1")
        except Exception:
            self.names = made
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20, check=False)

    def veth(self, a, interface_a, b, interface_b):
        """A pair between namespaces number a and b, up."""
        a, b = self.names[a], self.names[b]
        run("ip", "link", "add", interface_a, "netns", a, "type", "veth", "peer", "name", interface_b, "netns", b)
        for name, interface in ((a, interface_a), (b, interface_b)):
            run("ip", "-n", name, "link", "set", interface, "up")

    def offloads_off(self, n, interface):
        run(*self.inside(n), "ethtool", "-K", interface, *[word for o in OFFLOADS for word in (o, "off")])

    def inside(self, n):
        return ["ip", "netns", "exec", self.names[n]]
