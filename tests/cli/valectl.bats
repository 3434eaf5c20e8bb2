#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# valectl: names and letters without privileges; with them, interfaces on a switch in a namespace of its own.
#   s0 10.81.0.1 -- m0 |                  | h0 10.81.0.100, with its stack
#   s1 10.81.0.2 -- h0 | vale1 (nm-host)  | tap0 10.81.0.50, persistent

load tool

setup_file() {
    namespaces nmvc w 0 1 || return 0
    local i
    ip link add m0 netns ${ns}w type veth peer name s0 netns ${ns}0
    ip link add h0 netns ${ns}w type veth peer name s1 netns ${ns}1
    for i in 0 1; do
        ip -n $ns$i addr add 10.81.0.$((i + 1))/24 dev s$i
        ip -n $ns$i link set s$i up
    done
    ip -n ${ns}w link set m0 up
    ip -n ${ns}w link set h0 up
    ip -n ${ns}w addr add 10.81.0.100/24 dev h0
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    tool=$NM_BIN/valectl
    cd "$BATS_TEST_TMPDIR"
}

teardown() {
    end_jobs
    kill_hosts
}

# ctl ARGUMENTS...: valectl in the switch's namespace.
ctl() { run in_ns w timeout 20 "$tool" "$@"; }
reaches() {
    run in_ns "$1" ping -q -c 10 -i 0.02 -W 2 "$2"
    ends 0 " 0% packet loss"
}

@test "nothing there" {
    go
    ends 0 "no switch and no pipe"
    go -l --json
    ends 0 '{"type": "list", "switches": []}'
    go -l vale1:
    ends 1 "there is no vale1"
    go -g vale1:a
    ends 1 "there is no vale1"
    for letter in d r p P; do
        go -$letter vale1:a
        ends 1 "there is no vale1"
    done
    nothing_left
}

@test "bad command lines" {
    usage "stands alone" vale1
    usage "is no option" -Z
    usage "write -a vale0:eth0" -a eth0
    usage "write -n vale0:v0" -n v0
    usage "does not say which" -d vale1:
    usage "no name to meet under" -a vale1/x:eth0
    usage "space" -a "vale1:a b"
    for o in g a h d n r p P C m -mtu; do usage "wants a value" -$o; done
    usage "one ring each way" -n vale1:x -C 256,256,4,4
    usage '"abc"' -n vale1:x -C abc
    usage "more than four" -n vale1:x -C 1,1,1,1,1
    usage "out of range" -n vale1:x -m 0
    go --help
    ends 0 "usage: valectl"
    for o in -V --version; do
        go $o
        ends 0 "valectl (nm "
    done
    run "$NM_BIN/nm-host" --version
    ends 0 "nm-host (nm "
    run "$NM_BIN/nm-host"
    ends 2 "say of what"
    run "$NM_BIN/nm-host" a/b
    ends 2 "no name to meet under"
}

@test "what cannot be attached is refused, and nothing stays" {
    go -a vale1:nosuch0
    ends 1 "nosuch0"
    go -n 'vale1:a{1'
    ends 1 "no name for a persistent port"
    go -n vale1:vale7
    ends 1 "no name for a persistent port"
    soon nothing_left
}

@test "null ports: attach, list, poll, detach" {
    go -a vale1:null:x --json
    ends 0 '"type": "done"'
    there 'ports["vale1:null:x"]["kind"] == "interface" and ports["vale1:null:x"]["mode"] == "null"'
    go -a vale1:null:x
    ends 1 "attached already"
    go -P vale1:null:x
    ends 1 "is not being polled"
    go -p vale1:null:x -C 0,100000
    ends 1 "no core 100000"
    go -p vale1:null:x -C 0,0
    ends 0
    there 'ports["vale1:null:x"]["polling_cpu"] == 0'
    go -p vale1:null:x
    ends 1 "polled already"
    go -d vale1:null:x
    ends 1 "stop that first"
    go -P vale1:null:x
    ends 0
    go -g vale1:null:x
    ends 0 "interface"
    go -r vale1:null:x
    ends 1 "-d detaches it"
    go -d vale1:null:y
    ends 1 "is not attached"
    go -d vale1:null:x
    ends 0
    soon nothing_left
}

@test "a persistent port is an interface, and talks with who is attached" {
    needs_namespaces
    ctl -n vale1:tap0 -C 512
    ends 0
    there 'ports["vale1:tap0"]["kind"] == "persistent" and ports["vale1:tap0"]["mode"] == "tap"'
    in_ns w ip link show tap0 | grep -q UP
    in_ns w ip addr del 10.81.0.100/24 dev h0
    in_ns w ip addr add 10.81.0.50/24 dev tap0
    ctl -a vale1:m0
    ends 0
    reaches 0 10.81.0.50
    reaches w 10.81.0.1
    ctl -n vale1:tap0
    ends 1
    ctl -d vale1:tap0
    ends 1 "-r destroys it"
    ctl -p vale1:tap0
    ends 1 "interfaces are polled"
    there 'ports["vale1:tap0"]["device_in"] > 10 and ports["vale1:tap0"]["device_out"] > 10 and switches["vale1"]["conserved"]'
    # It lasts: nobody is there any more but the port.
    ctl -d vale1:m0
    ends 0
    sleep 0.5
    there 'set(ports) == {"vale1:tap0"}'
    ctl -r vale1:m0
    ends 1 "no persistent port"
    ctl -r vale1:tap0
    ends 0
    ! in_ns w ip link show tap0
    in_ns w ip addr add 10.81.0.100/24 dev h0
    soon nothing_left
}

@test "an interface with its host's stack, and one that is polled" {
    needs_namespaces
    reaches 1 10.81.0.100
    ctl -a vale1:m0
    ends 0
    ctl -h vale1:h0
    ends 0
    there 'set(ports) == {"vale1:m0", "vale1:h0", "vale1:h0^"} and ports["vale1:h0^"]["kind"] == "stack"'
    reaches 0 10.81.0.2
    reaches 0 10.81.0.100
    reaches 1 10.81.0.100
    ctl -p vale1:m0 -C 0,0
    ends 0
    reaches 0 10.81.0.2
    ctl -P vale1:m0
    ends 0
    reaches 0 10.81.0.100
    # A link that goes down and comes back.
    ip -n ${ns}w link set m0 down
    sleep 0.5
    reaches 1 10.81.0.100
    ip -n ${ns}w link set m0 up
    sleep 0.5
    reaches 0 10.81.0.100
    run "$tool" -l vale1
    ends 0 "vale1:h0^"
    ctl -d vale1:h0
    ends 0
    there 'set(ports) == {"vale1:m0"}'
    reaches 1 10.81.0.100
    ctl -d vale1:m0
    ends 0
    soon nothing_left
}

@test "kill -9 of the host: its interfaces are the stack's again, or gone" {
    needs_namespaces
    ctl -n vale1:tap0
    ctl -h vale1:h0
    ends 0
    reaches 1 10.81.0.100
    kill -9 $("$tool" --json -l | python3 -c 'import json, sys; print(json.load(sys.stdin)["switches"][0]["pid"])')
    soon reaches 1 10.81.0.100
    ! in_ns w ip link show tap0
    go -l
    nothing_left
}

@test "an interface that vanishes leaves the switch" {
    needs_namespaces
    ip link add m9 netns ${ns}w type veth peer name s9 netns ${ns}0
    ip -n ${ns}w link set m9 up
    ctl -a vale1:m9
    ends 0
    ip -n ${ns}w link del m9
    soon nothing_left
}

@test "a program's port and an interface on one switch" {
    needs_namespaces
    ctl -a vale1:m0
    ends 0
    in_ns 0 ping -q -c 30 -i 0.1 -W 1 10.81.0.77 >/dev/null &
    local ping=$!
    timeout 20 "$NM_BIN/pkt-gen" -i vale1:a -f rx -n 2 --json >rx.out 2>rx.err
    kill $ping
    json rx.out 'd["packets"] >= 2'
    ctl -d vale1:m0
    ends 0
    soon nothing_left
}
