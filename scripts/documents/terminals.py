# SPDX-License-Identifier: BSD-2-Clause
"""Runs the lines of a block as somebody would who types each into a terminal of its own.

python3 terminals.py <JSON, in namespaces of its own (see run_block): {"lines": [...], "each": false, "words": ["eth1", "file=x.pcap"],
                       "bin": DIR, "directory": DIR, "together": SECONDS}
Exit 0: every line did what it should; 1: one did not, and which one is on stdout.
"""
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

# In these namespaces nothing outlives the first process: whatever a block starts ends with it.
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
TOOLS = ("pkt-gen", "bridge", "switch", "nm-dump", "lb", "nmreplay", "nmctl", "ptnet-host", "ptnet-if", "valectl")
# How the rest of a pipe takes ^C is its own affair (tshark exits 2): there it is the first program that counts.
PIPE = """trap interrupted=yes INT
LINE
all=$? parts=("${PIPESTATUS[@]}")
[ -z "$interrupted" ] || all=${parts[0]}
exit $all
"""
READER_WENT = "who was to read it has gone"  # ^C reached it first
LIBC = ctypes.CDLL(None)
BLOCK_SECONDS = 60
SETTLED, TOGETHER, ENDS = 3.0, 1.5, 20.0
GOES_ON = re.compile(r"(?:nm-)?(?:pkt-gen|bridge|switch|lb|dump|replay|ptnet-host|ptnet-if)|nmreplay")


def installed(tool):
    """The name that a tool has once it is installed: examples/CMakeLists.txt gives the same."""
    return "nm-replay" if tool == "nmreplay" else tool if tool.startswith("nm") or tool == "valectl" else "nm-" + tool


def link_tools(programs, directory):
    """The programs under the names that documents call them by."""
    directory.mkdir()
    for tool in TOOLS:
        if (programs / tool).exists():
            for name in {tool, installed(tool)}:
                (directory / name).symlink_to(programs / tool)


def goes_on(line):
    """Whether it is interrupted in the end, and not waited for."""
    words = line.split()
    while words and ("=" in words[0] or words[0] in ("sudo", "exec")):
        words.pop(0)
    name = os.path.basename(words[0]) if words else ""
    return bool(GOES_ON.fullmatch(name)) or name == "nmctl" and words[1:2] in (["top"], ["metrics"]) or name == "valectl" and "-T" in words


def begin():
    """In the child: ^C means what it does in a terminal, and it dies with this script (PR_SET_PDEATHSIG)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    LIBC.prctl(1, signal.SIGKILL)


class Terminal:
    """One line, and what it says."""

    def __init__(self, line, directory, environment):
        self.line = line
        self.output = tempfile.TemporaryFile(dir=directory)
        # Its own process group, as a terminal gives it: ^C reaches all parts of a pipe.
        self.process = subprocess.Popen(["bash", "-o", "pipefail", "-c", PIPE.replace("LINE", line) if "|" in line else line], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=self.output, start_new_session=True, preexec_fn=begin)

    def settle(self):
        """Until it has ended, or has said something and is on its way: then whoever sits there turns to the next terminal."""
        limit = time.monotonic() + (SETTLED if goes_on(self.line) else ENDS)
        while self.process.poll() is None and time.monotonic() < limit:
            if goes_on(self.line) and os.fstat(self.output.fileno()).st_size:
                try:
                    self.process.wait(0.4)
                except subprocess.TimeoutExpired:
                    pass
                return
            time.sleep(0.02)

    def interrupt(self):
        """^C, unless it has ended; what is wrong with how it ended, or None."""
        interrupted = self.process.poll() is None
        if interrupted and not goes_on(self.line):
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.why(f"has not ended within {ENDS:.0f} s")
        if interrupted:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            status = self.process.wait(ENDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.why("does not end when it is interrupted")
        if status == 0 or interrupted and (status in (130, -signal.SIGINT) or status == 1 and "|" in self.line and READER_WENT in self.text()):
            return None
        return self.why(f"exits {status}" + (" when it is interrupted" if interrupted else ""))

    def text(self):
        """The last of it; where the line writes next is not changed by this."""
        size = os.fstat(self.output.fileno()).st_size
        return os.pread(self.output.fileno(), 1 << 16, max(0, size - (1 << 16))).decode(errors="replace")

    def why(self, what):
        last = "\n".join("    " + line for line in self.text().splitlines()[-20:])
        return f"`{self.line}` {what}; it said:\n{last}"


def type_all(lines, each, together, directory, environment):
    """What is wrong with them: all at work at the same time, or each by itself."""
    wrong, terminals = [], []
    for line in lines:
        terminal = Terminal(line, directory, environment)
        terminal.settle()
        terminals.append(terminal)
        if each:
            wrong += end([terminal], together)
            terminals = []
        elif terminal.process.poll() not in (None, 0):
            break  # what comes now would only fail in its wake
    return wrong + end(terminals, together)


def end(terminals, together):
    limit = time.monotonic() + together
    while time.monotonic() < limit and any(t.process.poll() is None for t in terminals):
        time.sleep(0.02)
    # The last one first: what runs in it may need what the others run.
    return [why for t in reversed(terminals) if (why := t.interrupt())]


def frame(number):
    """An Ethernet frame that a protocol analyser likes: UDP over IPv4, to everybody."""
    payload = struct.pack(">I", number) + b"nm" * 20
    udp = struct.pack(">HHHH", 4000 + number % 16, 5000, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0, bytes([192, 0, 2, 100]), bytes([192, 0, 2, 255]))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return b"\xff" * 6 + bytes([2, 0, 0, 0, 0, number % 8]) + b"\x08\x00" + head + udp


def make_capture(path):
    """Fifty frames, a hundredth of a second apart."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(50):
            data = frame(number)
            file.write(struct.pack("<IIII", 1, number * 10000, len(data), len(data)) + data)


def make_interface(name, address):
    """One whose other end has traffic."""
    far = "far-" + name
    for words in (["link", "add", name, "type", "veth", "peer", "name", far], ["link", "set", name, "up"], ["link", "set", far, "up"],
                  *([["addr", "add", address, "dev", name]] if address else [])):
        subprocess.run(["ip", *words], check=True, timeout=10)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((far, 0))

    def talk():
        for number in range(1 << 30):
            try:
                wire.send(frame(number))
            except OSError:
                pass  # nobody has room for it now, or a line of the block took the interface away
            time.sleep(0.01)

    threading.Thread(target=talk, daemon=True).start()


def main():
    plan = json.load(sys.stdin)
    directory = pathlib.Path(plan["directory"])
    os.makedirs("/run/netns", exist_ok=True)
    for place in (directory, "/run/netns"):  # both are gone with the namespace
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", place], check=True, timeout=10)
    subprocess.run(["mount", "-t", "sysfs", "none", "/sys"], check=True, timeout=10)  # /sys/class/net is that of who mounts it
    work = directory / "work"
    work.mkdir()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
    for word in plan["words"]:
        key, _, value = word.partition("=")
        if key == "file":
            make_capture(work / value)
        else:
            make_interface(key, value)
    link_tools(pathlib.Path(plan["bin"]), directory / "bin")
    environment = dict(os.environ, PATH=f"{directory}/bin:{os.environ['PATH']}", NM_RUNTIME_DIR=f"{directory}/run", NM_LIBEXEC=plan["bin"])
    wrong = type_all(plan["lines"], plan["each"], plan["together"], work, environment)
    print("\n".join(wrong))
    return 1 if wrong else 0


def lacks(words, lines, programs):
    """Why such a block cannot run here, or None. What `needs=` names is a program, or a kind of interface that the kernel has."""
    for word in words:
        key, _, need = word.partition("=")
        if key != "needs" or shutil.which(need):
            continue
        probe = ["unshare", "--net", "ip", "link", "add", "nm-probe", "type", need, "id", "42", "dstport", "4789"]
        if subprocess.run(probe, capture_output=True, timeout=20).returncode:
            return f"there is no {need} here"
    if programs is None:
        return "no --bin says where the programs are"
    text = "\n".join(lines)
    missing = [tool for tool in TOOLS if re.search(rf"(?<![\w-])({tool}|{installed(tool)})(?![\w-])", text) and not (programs / tool).exists()]
    return f"not built: {' '.join(missing)}" if missing else None


def run_block(lines, each, words, programs):
    """(exit status, what it said): None where it did not end."""
    with tempfile.TemporaryDirectory() as directory:
        plan = {"lines": lines, "each": each, "words": [w for w in words if not w.startswith("needs=")], "bin": str(programs), "directory": directory,
                "together": TOGETHER}
        try:
            result = subprocess.run([*NAMESPACES, sys.executable, __file__], input=json.dumps(plan), capture_output=True, text=True,
                                    timeout=BLOCK_SECONDS)
        except subprocess.TimeoutExpired:
            return None, f"this block did not end within {BLOCK_SECONDS} s"
    return result.returncode, (result.stdout + result.stderr).rstrip()


if __name__ == "__main__":
    sys.exit(main())
