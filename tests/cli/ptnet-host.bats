#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# ptnet-host, as far as it goes without a virtual machine; those are in tests/vm.

load tool

setup() {
    tool=$NM_BIN/ptnet-host
    cd "$BATS_TEST_TMPDIR"
}

@test "what is wrong on the command line" {
    usage "no port given"
    usage "no port for vm.sock" -s vm.sock
    usage "no prefix" -i eth0
    usage "lives in a memory of its own" -s vm.sock -i vale1:a -i vale1:b
    usage "--own-switches too" -s vm.sock --nvdimm -i vale1:a
    go -s "$(printf 'x%.0s' $(seq 120))" -i null:a --time 0.2
    ends 1 "a socket's path has 1 to 107 characters"
}

@test "it says how QEMU is to be started, and leaves nothing behind" {
    go --own-switches -s vm.sock -i vale1:a -i null:x@conf:rings=2 --time 0.3
    ends 0 "-chardev socket,path=$PWD/vm.sock,id=nm1 -device ivshmem-doorbell,chardev=nm1,vectors=8"
    says "ptnet:ADDRESS:1  is "
    says "vale1:a"
    [ ! -e vm.sock ]
}

@test "an nvdimm" {
    go -s vm.sock --nvdimm -i null:x --time 0.3
    ends 0 "mem-path=$PWD/vm.sock.mem,size="
    [ ! -e vm.sock.mem ] && [ ! -L vm.sock.mem ]
}

@test "its books" {
    timeout 20 "$tool" --own-switches -s a.sock -i vale1:a -s b.sock -i vale1:b --time 0.3 --json >out
    json out 'len(d["guests"]) == 2 and d["guests"][0]["ports"][0]["name"] == "vale1:a" and d["guests"][1]["joined"] == 0'
    json out 'd["guests"][0]["bytes"] & (d["guests"][0]["bytes"] - 1) == 0 and not d["guests"][0]["ports"][0]["running"]'
}

@test "what it does meanwhile: lines, objects, rows" {
    timeout 20 "$tool" --own-switches -s a.sock -i vale1:a -i null:x --time 0.5 -T 50 --json >out 2>err
    json out 'd["type"] == "summary" and len(lines) >= 2 and lines[0]["type"] == "interval" and len(lines[0]["guests"][0]["ports"]) == 2'
    grep -q "idle 0 frames from the guest" err
    timeout 20 "$tool" --own-switches -s a.sock -i vale1:a -i null:x --time 0.5 -T 50 --csv >out 2>err
    python3 - <<'PY'
import csv
rows = list(csv.DictReader(open("out")))
assert len(rows) >= 4 and {r["name"] for r in rows} == {"vale1:a", "null:x"} and {r["kind"] for r in rows} == {"guest"}, rows
assert all(r["who"].endswith("/a.sock") for r in rows)
PY
    usage "choose one" -i null:x --csv --json
    usage "choose one" -i null:x --csv --metrics -
    usage "wants a value" --metrics
    usage "the name of the file is empty" -i null:x --metrics ''
    usage "out of range" -i null:x -T 0
    usage '"abc"' -i null:x -T abc
    usage "too large" -i null:x -T 99999999999999999999999
}

@test "one at a time; what was killed is replaced" {
    timeout 60 "$tool" -s vm.sock -i null:x >out 2>err 3>&- &
    for _ in $(seq 100); do grep -q id=nm1 err && break; sleep 0.05; done
    pid=$(pgrep -P $! -x ptnet-host)
    go -s vm.sock -i null:x --time 0.1
    ends 1 "a server is at vm.sock already"
    kill -9 "$pid"
    [ -e vm.sock ]
    sleep 0.2
    go -s vm.sock -i null:x --time 0.1
    ends 0
    : >plain
    go -s plain -i null:x --time 0.1
    ends 1 "no socket of this user's"
}

@test "a switch's port is served by the switch's process, which other programs meet" {
    timeout 60 "$tool" -s vm.sock -i vale1:a >out 2>err 3>&- &
    for _ in $(seq 100); do grep -q id=nm1 err && break; sleep 0.05; done
    run timeout 20 "$NM_BIN/valectl" -l
    says "vale1:a"
    kill -INT "$(pgrep -P $! -x ptnet-host)"
    wait $!
    [ ! -e vm.sock ]
}
