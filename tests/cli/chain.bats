#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Seven programs in a row: a capture of real protocols is replayed into a switch, split by lb, and recorded by three.

load tool

setup() {
    cd "$BATS_TEST_TMPDIR"
    [ -x "$NM_BIN/lb" ] || skip "lb is not built here"
    ! "$NM_BIN/nmreplay" --version | grep -q "no libpcap" || skip "built without libpcap"
    chain=$BATS_TEST_DIRNAME/chain.py
    for python in python3 /usr/bin/python3 none; do
        "$python" -c 'import scapy' 2>/dev/null && break
    done
    [ "$python" != none ] || skip "python3-scapy is not installed"
}

# Files are written as frames come, so the last one may be there in part.
size_of_all() { cat x0.pcap x1.pcap x2.pcap 2>/dev/null | wc -c; }
all_there() { [ "$(size_of_all)" -ge "$1" ]; }

@test "replayed, switched, split and recorded: the union is the input, and no flow is split" {
    "$python" "$chain" make in.pcap flows.json
    # Room for all of it at each step: the machine may be as slow as it likes, and nothing needs to be dropped.
    in_background lb "$NM_BIN/lb" -i vale7:lb@conf:slots=4096 -p x:3 --slots 4096 --json --expect-loss 0
    local lb=$pid i recorders=()
    soon grep -q "^vale7:lb" lb.err
    for i in 0 1 2; do
        in_background x$i "$NM_BIN/nmreplay" --record x$i.pcap -i "netmap:x}$i" --json --expect-loss 0
        recorders+=($pid)
    done
    for i in 0 1 2; do soon test -s x$i.pcap; done
    run timeout 60 "$NM_BIN/nmreplay" -f in.pcap -i vale7:in@conf:slots=4096 -R 4k --json --expect-loss 0
    ends 0
    # Each file has a header of 24 bytes of its own.
    soon all_there $(($(wc -c <in.pcap) + 48))
    # lb first: what lies in a pipe whose consumer has gone would be lost.
    kill -INT $lb
    wait $lb || {
        cat lb.out lb.err
        return 1
    }
    kill -INT "${recorders[@]}"
    for i in "${recorders[@]}"; do wait $i; done
    python3 "$chain" check in.pcap flows.json x0.pcap x1.pcap x2.pcap
    local n
    n=$(python3 -c 'import json; print(len(json.load(open("flows.json"))))')
    json lb.out "d['packets'] == $n and d['groups'][0]['forwarded'] == $n and d['conserved']"
}
