#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# bridge and pkt-gen between an interface and the host's stack on it: two namespaces, the host and somebody far away.
#   host h0 (10.78.0.1, fd00:78::1) -- f0 (10.78.0.2, fd00:78::2) far

load tool

setup_file() {
    namespaces nmhs h f || return 0
    ip link add h0 netns ${ns}h type veth peer name f0 netns ${ns}f
    local side=1
    for n in h f; do
        ip -n $ns$n link set lo up
        ip -n $ns$n addr add 10.78.0.$side/24 dev ${n}0
        ip -n $ns$n addr add fd00:78::$side/64 dev ${n}0 nodad
        ip -n $ns$n link set ${n}0 up
        side=2
    done
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    needs_namespaces
    cd "$BATS_TEST_TMPDIR"
    tool=$NM_BIN/bridge
}

teardown() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    if [ -n "$NMCLI_READY" ]; then offloads on; fi
}

offloads() { in_ns f ethtool -K f0 tx $1 tso $1 txvlan $1 >/dev/null; }
# start_bridge ARGUMENTS...: in the background; returns when both ports are open. $pid is the bridge's own.
start_bridge() { starts h 2 ' rx rings of ' -T 60000 "$@"; }
works() {
    run in_ns f ping -q -c 50 -i 0.005 -W 2 10.78.0.1
    ends 0 " 0% packet loss"
    run in_ns h ping -q -c 50 -i 0.005 -W 2 -s 1400 10.78.0.2
    ends 0 " 0% packet loss"
    run in_ns h ping -6 -q -c 20 -i 0.005 -W 2 fd00:78::2
    ends 0 " 0% packet loss"
    [ "$(transfer h f 10.78.0.1)" -gt 1000000 ]
    [ "$(transfer h f 10.78.0.1 -R)" -gt 1000000 ]
}
nothing_left() {
    local i left
    for i in $(seq 40); do
        left=$(in_ns h nft list ruleset 2>/dev/null)$(ip -n ${ns}h -d link show | grep -oE 'nmhost|xdp[a-z]*|promiscuity [1-9]' || true)
        if command -v bpftool >/dev/null; then left+=$(in_ns h bpftool net show | grep -E '(h0|nmhost[0-9]*)\(' || true); fi
        [ -z "$left" ] && return 0
        sleep 0.05
    done
    echo "left: $left"
    return 1
}

@test "one interface: a bridge between it and the host's stack, default offloads" {
    start_bridge -i netmap:h0 --json
    grep -q "netmap:h0: af_packet" err
    grep -q "netmap:h0^: host" err
    works
    stops
    json out 'd["type"] == "summary" and d["conserved"] and all(w["out"] > 100 and w["dropped"] == 0 for w in d["directions"])'
    json out '[(w["from"], w["to"]) for w in d["directions"]] == [("netmap:h0", "netmap:h0^"), ("netmap:h0^", "netmap:h0")]'
    # A frame that came between a port's open and the first look at the kernel's counters (neighbour discovery) is the port's only.
    json out 'all(0 <= p["rx"]["frames"] + p["rx"]["dropped"] - p["kernel"]["rx_packets"] <= 2 for p in d["ports"])'
    json out 'all(p["kernel"]["tx_packets"] == p["tx"]["frames"] for p in d["ports"])'
    nothing_left
    run in_ns f ping -q -c 3 -i 0.01 -W 2 10.78.0.1
    ends 0 " 0% packet loss"
}

@test "the same over AF_XDP, and with both named, in either order" {
    offloads off
    start_bridge -i netmap:h0 --json --require-mode copy
    grep -q "netmap:h0: af_xdp copy" err
    works
    stops
    json out 'd["conserved"] and all(w["out"] > 100 and w["dropped"] == 0 for w in d["directions"])'
    offloads on
    for order in "-i netmap:h0 -i netmap:h0^" "-i netmap:h0^ -i netmap:h0"; do
        start_bridge $order --json
        run in_ns f ping -q -c 50 -i 0.005 -W 2 10.78.0.1
        ends 0 " 0% packet loss"
        stops
        json out 'd["conserved"] and all(w["out"] >= 50 for w in d["directions"])'
    done
    nothing_left
}

@test "a connection lives through open, close and kill -9" {
    in_ns f timeout 20 iperf3 -s -1 >/dev/null 2>&1 3>&- &
    server=$!
    sleep 0.3
    in_ns h timeout 20 iperf3 -c 10.78.0.2 -t 4 -i 0.5 -b 20M --forceflush >iperf.txt 3>&- &
    client=$!
    sleep 0.7
    start_bridge -i netmap:h0
    sleep 0.7
    stops
    nothing_left
    start_bridge -i netmap:h0
    sleep 0.5
    kill -9 $pid
    pid=
    nothing_left
    wait $client
    wait $server
    server=
    grep -q receiver iperf.txt
    # The last half second ran as the first one did.
    grep -q '3.50-4.00 .*[1-9][0-9.]* Mbits/sec' iperf.txt || { cat iperf.txt; return 1; }
}

@test "pkt-gen hears what the host sends, and sends what it hears" {
    tool=$NM_BIN/pkt-gen
    in_ns h timeout 15 "$tool" -i netmap:h0^ -f rx --time 3 --json >out 2>err 3>&- &
    sleep 0.7
    run in_ns h ping -q -c 25 -i 0.05 -W 1 10.78.0.2
    ends 1 "100% packet loss"
    wait
    json out 'd["packets"] >= 20 and d["port"]["mode"] == "host"'
    before=$(in_ns h awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp)
    run in_ns h timeout 10 "$tool" -i netmap:h0^ -f tx -n 1000 -d 10.78.0.1:9 -D "$(in_ns h cat /sys/class/net/h0/address)" --expect-loss 0
    ends 0 "completed 1000, dropped 0"
    after=$(in_ns h awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp)
    [ $((after - before)) -eq 1000 ]
    nothing_left
}

@test "what has no host's stack says so" {
    go -i netmap:p{1
    ends 1 "netmap:p{1 has no host rings to go with it"
    run in_ns h timeout 10 "$tool" -i netmap:h0^
    ends 1 "has no host rings to go with it"
    run in_ns h timeout 10 "$tool" -i netmap:h0 -i netmap:h0^3
    ends 1 "h0 has one pair of host rings"
    run in_ns h timeout 10 "$tool" -i netmap:nosuch0
    ends 1 "nosuch0"
    run in_ns h timeout 10 setpriv --reuid 65534 --regid 65534 --clear-groups "$tool" -i netmap:h0
    ends 1 "h0"
}
