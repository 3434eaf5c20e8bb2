#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# nat, the example: a station inside and one outside, and the middlebox between them.
#   s0 10.86.0.2 -- m0 | nat (w), as 10.86.0.5 | m1 -- s1 10.86.0.9

load tool

setup_file() {
    namespaces nmna w 0 1 || return 0
    local i
    for i in 0 1; do
        ip link add m$i netns ${ns}w type veth peer name s$i netns $ns$i
        ip -n ${ns}w link set m$i up
        ip -n $ns$i link set s$i up
    done
    ip -n ${ns}0 addr add 10.86.0.2/24 dev s0
    ip -n ${ns}1 addr add 10.86.0.9/24 dev s1
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    tool=$NM_BIN/nat
    [ -x "$tool" ] || skip "nat is not built in this preset"
    cd "$BATS_TEST_TMPDIR"
}

@test "bad command lines" {
    go
    ends 2 "usage: nat"
    go null:a null:b
    ends 2 "usage: nat"
    go null:a null:b 1.2.3
    ends 2 "usage: nat"
    for seconds in x 1x -1 1e10 nan ""; do
        go null:a null:b 1.2.3.4 "$seconds"
        ends 2 "usage: nat"
    done
    go netmap:nosuch0 netmap:nosuch1 1.2.3.4
    ends 1 "nosuch0"
    go null:a null:b 1.2.3.4
    ends 1 "null:a"
}

@test "ping, UDP, TCP and errors cross with the address, and nobody comes in" {
    needs_namespaces
    ip netns exec ${ns}w timeout -s INT 80 "$tool" netmap:m0 netmap:m1 10.86.0.5 >out 2>err 3>&- &
    local job=$! i
    for i in $(seq 400); do
        [ "$(grep -c '^nat: ' err)" = 2 ] && break
        sleep 0.05
    done
    run in_ns 0 ping -q -c 10 -i 0.02 -W 5 10.86.0.9
    ends 0 " 0% packet loss"
    # Who it was, as the other side saw it; a megabyte there and back; what nobody listens to is refused.
    python3 - "$ns" <<'PY'
import hashlib, os, subprocess, sys
outside = """import socket, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("10.86.0.9", 7000)); u.settimeout(25)
t = socket.create_server(("10.86.0.9", 7000)); t.settimeout(25)
print("ready", flush=True)
data, who = u.recvfrom(2000); u.sendto(data + b"!", who); print(who[0], who[1] >= 49152, flush=True)
c, who = t.accept(); c.settimeout(25); print(who[0], who[1] >= 49152, flush=True)
n = 0
while n < 1_000_000:
    d = c.recv(65536); n += len(d); c.sendall(d)
c.close()"""
inside = """import os, socket, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(20); u.connect(("10.86.0.9", 7000))
u.send(b"hello"); assert u.recv(100) == b"hello!"
data = os.urandom(1_000_000)
t = socket.create_connection(("10.86.0.9", 7000), 20)
sender = threading.Thread(target=t.sendall, args=(data,)); sender.start()
got = bytearray()
while len(got) < len(data):
    d = t.recv(65536); assert d; got += d
assert got == data; sender.join()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(20); u.connect(("10.86.0.9", 7001)); u.send(b"x")
try: u.recv(1); assert False
except ConnectionRefusedError: print("refused")  # an ICMP error, whose quotation was put back
"""
run = lambda i, text, **more: subprocess.Popen(["timeout", "28", "ip", "netns", "exec", f"{sys.argv[1]}{i}", "python3", "-c", text], stdout=subprocess.PIPE, text=True)
o = run(1, outside)
assert o.stdout.readline() == "ready\n"
i = run(0, inside)
assert i.communicate()[0] == "refused\n" and i.returncode == 0, i.returncode
said = o.communicate()[0]
assert said == "10.86.0.5 True\n10.86.0.5 True\n" and o.returncode == 0, said
PY
    run in_ns 1 ping -q -c 2 -i 0.1 -W 1 10.86.0.5
    ends 1 "100% packet loss"
    run in_ns 1 ping -q -c 2 -i 0.1 -W 1 10.86.0.2
    ends 1 "100% packet loss"
    kill -INT $(pgrep -P $job -x nat)
    wait $job || { cat err; false; }
    grep -Eq 'from inside: [1-9][0-9]+ frames, .* [1-9][0-9]* connections$' out || { cat out err; false; }
}
