# SPDX-License-Identifier: BSD-2-Clause
# Monitors of ports that another program has: only where that one says --watchable.

setup() {
    load tool
    cd "$BATS_TEST_TMPDIR"
    pids=()
}

teardown() {
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null && wait "$p" || true; done
    if [ -n "${netns:-}" ]; then ip netns del "$netns"; fi
}

# owner ARGUMENTS...: pkt-gen in the background, once its port is open.
owner() {
    timeout 60 "$NM_BIN/pkt-gen" "$@" >owner.out 2>owner.err 3>&- &
    pids+=($!)
    for _ in $(seq 100); do
        grep -q 'rx rings' owner.err && break
        sleep 0.05
    done
    sleep 0.2  # the permit follows the port
}

@test "nm-dump watches a pipe of another program, which goes on undisturbed" {
    owner -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -R 2000 --watchable
    tool=$NM_BIN/nm-dump
    go -i 'netmap:p{1/t' -c 50 -w t.pcapng
    ends 0
    go -i 'netmap:p{1/r' --time 1 --json
    ends 0
    # Two at once, one of which is killed.
    timeout 60 "$NM_BIN/nm-dump" -i 'netmap:p{1/t' -w - >/dev/null 2>&1 3>&- &
    local victim=$!
    sleep 0.3
    # valectl says who lets what be watched, and who watches.
    tool=$NM_BIN/valectl
    go
    ends 0 "watch-p.m.1: process"
    says "p{1/t#0"
    go --json
    ends 0
    tool=$NM_BIN/nm-dump
    kill -9 "$victim"
    wait "$victim" || true
    go -i 'netmap:p{1/rt' -c 50 -w rt.pcapng
    ends 0
    [ -s rt.pcapng ]
    kill -0 "${pids[0]}"
}

@test "any tool opens such a monitor: pkt-gen counts what another one sends" {
    owner -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -R 2000 --watchable
    tool=$NM_BIN/pkt-gen
    go -i 'netmap:p{1/t' -f rx -n 100 --expect-loss 0
    ends 0
}

@test "an interface that a bridge has can be watched from outside" {
    [ "$(id -u)" -eq 0 ] || skip "needs root, for interfaces"
    netns=nmwatch$$
    ip netns add "$netns"
    ip -n "$netns" link add va0 type veth peer name va1
    ip -n "$netns" link add vb0 type veth peer name vb1
    for i in va0 va1 vb0 vb1; do ip -n "$netns" link set "$i" up; done
    timeout 60 ip netns exec "$netns" "$NM_BIN/bridge" -i netmap:va1 -i netmap:vb1 --watchable >bridge.out 2>bridge.err 3>&- &
    pids+=($!)
    for _ in $(seq 100); do
        [ "$(grep -c 'rx rings' bridge.err)" = 2 ] && break
        sleep 0.05
    done
    sleep 0.2
    timeout 60 ip netns exec "$netns" "$NM_BIN/pkt-gen" -i netmap:va0 -f tx -R 500 >/dev/null 2>&1 3>&- &
    pids+=($!)
    tool="ip netns exec $netns $NM_BIN/nm-dump"
    run timeout 20 $tool -i netmap:va1/r -c 20 -w r.pcapng
    ends 0
    run timeout 20 $tool -i netmap:vb1/t -c 20 -w t.pcapng
    ends 0
}

@test "without --watchable nobody watches, and is told why" {
    owner -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -R 2000
    tool=$NM_BIN/nm-dump
    go -i 'netmap:p{1/t' -c 5
    ends 1 "--watchable"
    tool=$NM_BIN/pkt-gen
    go -i 'netmap:p{1/t' -f rx -n 5
    ends 1 "--watchable"
}

@test "who watches is told when the port is closed" {
    owner -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -R 100 --watchable
    timeout 60 "$NM_BIN/pkt-gen" -i 'netmap:p{1/t' -f rx >rx.out 2>rx.err 3>&- &
    local watcher=$!
    pids+=("$watcher")
    for _ in $(seq 100); do
        grep -q 'rx rings' rx.err && break
        sleep 0.05
    done
    kill "${pids[0]}"
    wait "${pids[0]}" || true
    local status=0
    wait "$watcher" || status=$?
    [ "$status" -eq 1 ]
    grep -q 'host has gone' rx.err
}
