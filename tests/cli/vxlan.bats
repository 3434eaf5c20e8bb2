#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Two hosts joined (docs/two-hosts.md): each has a switch with its station and a kernel VXLAN interface on it, and the kernels carry the
# frames from one to the other over the underlay.
#   s0 10.85.0.1 -- m0 | switch in w0 | vxlan0 -- u0 192.0.2.1 == 192.0.2.2 u1 -- vxlan0 | switch in w1 | m1 -- s1 10.85.0.2

load tool

setup_file() {
    namespaces nmvx w0 w1 s0 s1 || return 0
    local i
    ip link add u0 netns ${ns}w0 type veth peer name u1 netns ${ns}w1
    for i in 0 1; do
        ip -n ${ns}w$i addr add 192.0.2.$((i + 1))/24 dev u$i
        ip -n ${ns}w$i link set u$i up
        ip -n ${ns}w$i link add vxlan0 type vxlan id 42 dstport 4789 local 192.0.2.$((i + 1)) remote 192.0.2.$((2 - i)) dev u$i || return 0
        ip -n ${ns}w$i link set vxlan0 up
        ip link add m$i mtu 1450 netns ${ns}w$i type veth peer name s$i mtu 1450 netns ${ns}s$i
        ip -n ${ns}w$i link set m$i up
        ip -n ${ns}s$i addr add 10.85.0.$((i + 1))/24 dev s$i
        ip -n ${ns}s$i link set s$i up
    done
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    needs_namespaces
    cd "$BATS_TEST_TMPDIR"
}

# What crosses: ping, the largest that fits, and bytes by TCP, both ways.
crosses() {
    run in_ns s0 ping -q -c 10 -i 0.02 -W 5 10.85.0.2
    ends 0 " 0% packet loss"
    run in_ns s1 ping -q -c 3 -i 0.02 -W 5 -M do -s 1422 10.85.0.1
    ends 0 " 0% packet loss"
    python3 - "$ns" <<'PY'
import hashlib, os, subprocess, sys
receive = """import hashlib, socket
with socket.create_server(("0.0.0.0", 5000)) as s:
    print("ready", flush=True)
    s.settimeout(40)
    c, _ = s.accept()
    c.settimeout(40)
    h = hashlib.md5()
    while d := c.recv(65536): h.update(d)
    print(h.hexdigest())"""
send = """import socket, sys
with socket.create_connection((sys.argv[1], 5000), 20) as c: c.sendall(sys.stdin.buffer.read())"""
data = os.urandom(3_000_000)
for to in (0, 1):
    command = lambda i, *words: ["timeout", "50", "ip", "netns", "exec", f"{sys.argv[1]}s{i}", "python3", "-c", *words]
    receiver = subprocess.Popen(command(to, receive), stdout=subprocess.PIPE, text=True)
    assert receiver.stdout.readline() == "ready\n"
    subprocess.run(command(1 - to, send, f"10.85.0.{to + 1}"), input=data, check=True)
    assert receiver.stdout.readline().strip() == hashlib.md5(data).hexdigest()
    assert receiver.wait() == 0
PY
}

@test "switch -i vxlan0 on both hosts" {
    local i jobs=()
    for i in 0 1; do
        ip netns exec ${ns}w$i timeout -s INT 100 "$NM_BIN/switch" -i vxlan0 -i m$i >out$i 2>err$i 3>&- &
        jobs+=($!)
    done
    for i in $(seq 600); do
        grep -q ' members$' err0 && grep -q ' members$' err1 && break
        sleep 0.05
    done
    crosses
    for i in 0 1; do
        kill -INT $(pgrep -P ${jobs[i]} -x switch)
        wait ${jobs[i]} || { cat err$i; false; }
    done
}

@test "valectl -a vale1:vxlan0 on both hosts" {
    local i
    for i in 0 1; do
        NM_RUNTIME_DIR=$PWD/run$i in_ns w$i "$NM_BIN/valectl" -a vale1:vxlan0
        NM_RUNTIME_DIR=$PWD/run$i in_ns w$i "$NM_BIN/valectl" -a vale1:m$i
    done
    crosses
    for i in 0 1; do
        NM_RUNTIME_DIR=$PWD/run$i in_ns w$i "$NM_BIN/valectl" -d vale1:vxlan0
        NM_RUNTIME_DIR=$PWD/run$i in_ns w$i "$NM_BIN/valectl" -d vale1:m$i
    done
    for i in $(seq 250); do
        [ -z "$(ls -A run0 run1 2>/dev/null | grep -v :)" ] && return 0
        sleep 0.02
    done
    ls -A run0 run1
    false
}
