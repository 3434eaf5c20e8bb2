#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# bridge and pkt-gen on real kernel interfaces: two namespaces, left and right, joined only by what runs in a third.
#   left l0 (10.77.0.1) -- m0 middle m1 -- r0 (10.77.0.2) right

load tool

setup_file() {
    namespaces nmcli l m r || return 0
    for n in l m r; do ip netns exec $ns$n sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'; done
    ip link add l0 netns ${ns}l type veth peer name m0 netns ${ns}m
    ip link add r0 netns ${ns}r type veth peer name m1 netns ${ns}m
    local side=1
    for n in l r; do
        ip -n $ns$n addr add 10.77.0.$side/24 dev ${n}0
        ip -n $ns$n link set ${n}0 up
        side=2
    done
    ip -n ${ns}m link set m0 up
    ip -n ${ns}m link set m1 up
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    needs_namespaces
    cd "$BATS_TEST_TMPDIR"
    tool=$NM_BIN/bridge
    ip -n ${ns}m link set m0 up
    ip -n ${ns}m link set m1 up
}

teardown() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    if [ -n "$NMCLI_READY" ]; then offloads on; fi
}

# What the ends leave to whoever receives: veth's default, or nothing.
offloads() {
    for n in l r; do in_ns $n ethtool -K ${n}0 tx $1 tso $1 txvlan $1 >/dev/null; done
}
# start_bridge ARGUMENTS...: in the background; returns when both ports are open. $pid is the bridge's own.
start_bridge() { starts m 2 ' rx rings of ' -i netmap:m0 -i netmap:m1 -T 60000 "$@"; }
works() {
    run in_ns l ping -q -c 100 -i 0.005 -W 2 10.77.0.2
    ends 0 " 0% packet loss"
    run in_ns l ping -q -c 20 -i 0.005 -W 2 -s 1400 10.77.0.2
    ends 0 " 0% packet loss"
    [ "$(transfer r l 10.77.0.2)" -gt 1000000 ]
    [ "$(transfer r l 10.77.0.2 -R)" -gt 1000000 ]
}
# The sums of ./out are the kernel's: of the program, and as anybody sees them.
sums_agree() {
    json out 'd["type"] == "summary" and d["conserved"] and all(w["out"] > 100 for w in d["directions"])'
    # A frame that came between the open and the first look at the kernel's counters is the port's only.
    json out 'all(0 <= p["rx"]["frames"] + p["rx"]["dropped"] - p["kernel"]["rx_packets"] <= 2 for p in d["ports"])'
    json out 'all(p["kernel"]["tx_packets"] == p["tx"]["frames"] for p in d["ports"])'
}

@test "default offloads: ping and TCP both ways, sums equal the kernel's" {
    start_bridge --json
    grep -q "af_packet" err
    grep -q "for a faster mode, or a safer one: .*ethtool -K" err
    works
    stops
    sums_agree
}

@test "offloads off: the same over AF_XDP" {
    offloads off
    start_bridge --json --require-mode copy
    grep -q "netmap:m0: af_xdp copy" err
    works
    stops
    sums_agree
}

@test "a tagged frame arrives tagged" {
    for how in on off; do
        offloads $how
        start_bridge
        in_ns r timeout 10 tcpdump -i r0 -nn -e -c 3 'ether proto 0x88b5 or vlan' >dump 2>/dev/null 3>&- &
        server=$!
        sleep 0.7
        in_ns l python3 - <<'PY'
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("l0", 0))
head = bytes.fromhex("ffffffffffff020000000009")
for tag in ("81006007", "", "81000123"): s.send(head + bytes.fromhex(tag + "88b5") + bytes(60))
PY
        wait $server
        server=
        grep -q "ethertype 802.1Q (0x8100), length 78: vlan 7, p 3" dump || { cat dump; return 1; }
        grep -q "vlan 291, p 0" dump
        [ "$(grep -c 'ethertype Unknown (0x88b5), length 74' dump)" -eq 1 ] || { cat dump; return 1; }
        stops
    done
}

@test "the host's stack neither hears nor speaks while the port is open" {
    ip -n ${ns}m addr add 10.77.0.3/24 dev m0
    run in_ns l ping -q -c 1 -W 1 10.77.0.3
    ends 0
    start_bridge
    run in_ns l ping -q -c 2 -i 0.1 -W 1 10.77.0.3
    ends 1 "100% packet loss"
    stops
    run in_ns l ping -q -c 1 -W 1 10.77.0.3
    ends 0
    ip -n ${ns}m addr del 10.77.0.3/24 dev m0
}

@test "kill -9 leaves nothing" {
    for how in "on af_packet" "off copy"; do
        offloads ${how% *}
        start_bridge --require-mode ${how#* }
        kill -9 $pid
        wait || true
        pid=
        for i in $(seq 40); do
            left=$(in_ns m nft list ruleset 2>/dev/null)$(ip -n ${ns}m -d link show | grep -oE 'xdp[a-z]*|promiscuity [1-9]' || true)
            [ -z "$left" ] && break
            sleep 0.05
        done
        [ -z "$left" ] || { echo "left after kill -9 ($how): $left"; return 1; }
        if command -v bpftool >/dev/null; then
            [ -z "$(in_ns m bpftool net show | grep -E 'm[01]\(' || true)" ]
        fi
    done
}

@test "an interface that goes down ends the bridge within a second, with a sentence" {
    start_bridge --json
    ip -n ${ns}m link set m1 down
    for i in $(seq 20); do
        kill -0 $pid 2>/dev/null || break
        sleep 0.05
    done
    run kill -0 $pid
    ends 1
    pid=
    grep -q "m1 is down; run .ip link set m1 up." err
    json out 'd["type"] == "summary"'
}

@test "interfaces that are not there, or down, or not ours to open" {
    run in_ns m timeout 10 "$tool" -i netmap:m0 -i netmap:nosuch0
    ends 1 "nosuch0"
    ip -n ${ns}m link set m1 down
    run in_ns m timeout 10 "$tool" -i netmap:m0 -i netmap:m1
    ends 1 "m1 is down; run"
    ip -n ${ns}m link set m1 up
    run in_ns m timeout 10 "$tool" -i netmap:m0 -i netmap:m1 --require-mode zero-copy
    ends 1
    run in_ns m timeout 10 setpriv --reuid 65534 --regid 65534 --clear-groups "$tool" -i netmap:m0 -i netmap:m1
    ends 1 "m0"
}

@test "pkt-gen: tx to rx, ping to pong" {
    tool=$NM_BIN/pkt-gen
    in_ns l timeout 15 "$tool" -i netmap:l0 -f rx -n 20k --json >out 2>err 3>&- &
    sleep 0.7
    run in_ns m timeout 10 "$tool" -i netmap:m0 -f tx -n 20k -R 50k --expect-loss 0
    ends 0 "completed 20000, dropped 0"
    wait
    json out 'd["packets"] == 20000 and d["port"]["mode"] == "af_packet"'
    in_ns l timeout 15 "$tool" -i netmap:l0 -f pong -n 1000 >out 2>err 3>&- &
    sleep 0.7
    run in_ns m timeout 10 "$tool" -i netmap:m0 -f ping -n 1000 --expect-loss 0
    ends 0 "Pings 1000, answered 1000, lost 0"
    says "p99.99"
    wait
    grep -q "Ponged 1000 packets" out
}
