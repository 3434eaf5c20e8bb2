#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The small examples check themselves and end by themselves. (Presets build them where NM_BUILD_EXAMPLES is on.)

load tool

setup() { cd "$BATS_TEST_TMPDIR"; }

example() {
    [ -x "$NM_BIN/$1" ] || skip "$1 is not built in this preset"
    tool=$NM_BIN/$1
    go
    ends 0
}

# begun PROGRAM: it has opened its ports, and said so in ./err.
begun() {
    local i
    for i in $(seq 400); do
        grep -q "^$1: " err && return 0
        sleep 0.05
    done
    cat err
    return 1
}

@test "epoll: level and edge triggered" {
    example epoll
    says "level triggered: 20000 frames in order"
    says "edge triggered: 20000 frames in order"
}

@test "asio" {
    example asio
    says "100000 frames sent, 100000 received, in order"
}

@test "coroutine" {
    example coroutine
    says "100000 of 100000 frames received in order"
}

@test "forward" {
    [ -x "$NM_BIN/forward" ] || skip "forward is not built in this preset"
    run timeout 20 "$NM_BIN/forward" null:a null:b 0.3
    ends 0
}

@test "lookup: a switch with a lookup of its own" {
    example lookup
    says "vale0:uplink got 1"
    says "vale0:b got 2"
}

@test "pcap_style: dispatch, inject, next" {
    example pcap_style
    says "100000 frames injected, 100000 received, 100000 in order"
    run timeout 5 "$NM_BIN/pcap_style" null:a 0
    ends 2 "usage: pcap_style"
    for count in x 1x -1 99999999999; do
        run timeout 5 "$NM_BIN/pcap_style" null:a $count
        ends 2 "usage: pcap_style"
    done
    run timeout 5 "$NM_BIN/pcap_style" netmap:nosuch0 1
    ends 1 "nosuch0"
}

@test "pcap_style shows what another program sends" {
    [ -x "$NM_BIN/pcap_style" ] || skip "pcap_style is not built in this preset"
    timeout 60 "$NM_BIN/pcap_style" 'netmap:a}1' 3 >out 2>err 3>&- &
    begun pcap_style
    timeout 20 "$NM_BIN/pkt-gen" -i 'netmap:a{1' -f tx -n 3 -S 02:00:00:00:00:01 -D 02:00:00:00:00:02
    wait $!
    [ "$(grep -c '^02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x0800, length 60$' out)" = 3 ] || { cat out err; false; }
}

@test "filter: what a pcap expression says" {
    [ -x "$NM_BIN/filter" ] || skip "filter is not built in this preset"
    timeout 60 "$NM_BIN/filter" 'netmap:a}1' 'netmap:b{1' 'udp dst port 7 and dst host 10.1.0.1' 1500 >out 2>err 3>&- &
    begun filter
    timeout 20 "$NM_BIN/pkt-gen" -i 'netmap:a{1' -f tx -n 900 -d 10.1.0.1:7
    timeout 20 "$NM_BIN/pkt-gen" -i 'netmap:a{1' -f tx -n 600 -d 10.1.0.1:8
    wait $!
    grep -qx "900 frames passed, 600 dropped" out || { cat out err; false; }
}

@test "filter: bad command lines" {
    tool=$NM_BIN/filter
    [ -x "$tool" ] || skip "filter is not built in this preset"
    go
    ends 2 "usage: filter"
    go null:a null:b
    ends 2 "usage: filter"
    go null:a null:b "tcp" 1 2
    ends 2 "usage: filter"
    go null:a null:b "tcp" 1x
    ends 2 "usage: filter"
    go null:a null:b "tcp" -5
    ends 2 "usage: filter"
    go null:a null:b "tcp port port"
    ends 2 '"tcp port port": '
    go null:a null:b "host no.such.host.invalid"
    ends 2 '"host no.such.host.invalid": '
    go null:a null:b "len > 99999999999999"
    ends 2 'filter: "len'
    go netmap:nosuch0 null:b "tcp"
    ends 1 "nosuch0"
}
