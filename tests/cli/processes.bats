#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Programs that meet: on a switch that lives in a process of its own, in either order, and whoever dies.

load tool

setup() {
    tool=$NM_BIN/pkt-gen
    cd "$BATS_TEST_TMPDIR"
}

teardown() {
    end_jobs
    kill_hosts
}

# A process that is nobody's child any more may stay a zombie for a while.
ended() { [[ $(ps -o stat= -p "$1") == Z* || -z $(ps -o stat= -p "$1") ]]; }

@test "pkt-gen in two processes, the receiver first" {
    in_background rx timeout -s INT 20 "$tool" -i vale1:a -f rx --json
    local rx=$pid
    soon there '"vale1:a" in ports'
    timeout 20 "$tool" -i vale1:b -f tx -n 5000 -R 20000 --json >tx.out 2>tx.err
    json tx.out 'd["packets"] == 5000'
    there 'switches["vale1"]["conserved"] and switches["vale1"]["accepted"] == 5000 and switches["vale1"]["dropped"] + switches["vale1"]["delivered"] == 5000'
    local delivered
    delivered=$(list | python3 -c 'import json, sys; print(json.load(sys.stdin)["switches"][0]["delivered"])')
    [ "$delivered" -gt 2500 ]
    kill -INT $(pgrep -P $rx)
    wait $rx
    [ "$(packets rx.out)" -eq "$delivered" ]
    soon nothing_left
}

@test "the sender first: what nobody is there for is counted" {
    in_background tx timeout -s INT 20 "$tool" -i vale1:b -f tx -R 5000
    soon there 'switches["vale1"]["accepted"] > 0'
    there 'switches["vale1"]["dropped"] > 0 and switches["vale1"]["delivered"] == 0'
    timeout 20 "$tool" -i vale1:a -f rx -n 2000 --json >rx.out 2>rx.err
    json rx.out 'd["packets"] >= 2000'
    grep -q "vale1:a: ptnet" rx.err
}

@test "a sender says in the end what the switch dropped, and takes it as lost" {
    go -i vale1:b -f tx -n 1000 --expect-loss 0
    ends 3 "The switch dropped 1000 of them (1000 no destination)"
    says "1000 of 1000 frames lost: NOT MET"
    timeout 20 "$tool" -i vale1:b -f tx -n 500 --json >tx.out 2>tx.err
    json tx.out 'd["completed"] == 500 and d["switch_dropped"] == 500 and d["switch_drops"]["no destination"] == 500'
    # Who hears them, and reads, has them.
    in_background rx timeout -s INT 20 "$tool" -i vale1:a -f rx -n 500 -T 100000
    soon there '"vale1:a" in ports'
    go -i vale1:b -f tx -n 500 -R 5000 --expect-loss 0
    ends 0
    wait "$pid"
}

@test "valectl lists who has which port" {
    in_background a timeout 20 "$tool" -i vale1:a -f rx
    in_background b timeout 20 "$tool" -i vale1:b@conf:slots=256 -f rx
    in_background c timeout 20 "$tool" -i vale_2:c -f rx
    soon there '{"vale1:a", "vale1:b", "vale_2:c"} <= set(ports)'
    there 'ports["vale1:b"]["rx_slots"] == 256 and ports["vale1:a"]["kind"] == "port" and set(switches) == {"vale1", "vale_2"}'
    local process
    process=$(pgrep -P ${jobs_of_test[0]})
    there "ports['vale1:a']['pid'] == $process"
    run "$NM_BIN/valectl" -l vale1
    ends 0 "vale1:b"
    [[ $output != *vale_2* ]]
    run "$NM_BIN/valectl" -l vale9
    ends 1 "there is no vale9"
    run "$NM_BIN/valectl" -d vale1:a
    ends 1 "close it there"
}

@test "a port has one user" {
    in_background a timeout 20 "$tool" -i vale1:a -f rx
    soon there '"vale1:a" in ports'
    go -i vale1:a -f rx -n 1
    ends 1 "is open in process"
}

@test "killing the first opener disturbs nobody" {
    in_background first timeout 30 "$tool" -i vale1:first -f rx
    local first=$pid
    soon there '"vale1:first" in ports'
    in_background rx timeout -s INT 30 "$tool" -i vale1:a -f rx --json
    soon there '"vale1:a" in ports'
    in_background tx timeout -s INT 30 "$tool" -i vale1:b -f tx -R 2000
    soon there 'switches["vale1"]["delivered"] > 500'
    kill -9 $(pgrep -P $first) $first
    soon there '"vale1:first" not in ports'
    local before
    before=$(list | python3 -c 'import json, sys; print(json.load(sys.stdin)["switches"][0]["delivered"])')
    soon there "switches['vale1']['delivered'] > $before + 1000"
    there 'switches["vale1"]["conserved"]'
}

@test "kill -9 of all clients leaves nothing, and their host ends" {
    local i host
    for i in 1 2 3; do in_background c$i timeout 30 "$tool" -i vale1:p$i -f tx -R 1000; done
    soon there 'len(ports) == 3'
    host=$(hosts)
    for i in "${jobs_of_test[@]}"; do kill -9 $(pgrep -P $i) $i; done
    soon ended $host
    nothing_left
    ! ls /dev/shm | grep nm-
}

@test "kill -9 of the host: clients say so, and the next ones find another" {
    in_background rx timeout 30 "$tool" -i vale1:a -f rx
    local rx=$pid
    in_background tx timeout 30 "$tool" -i vale1:b -f tx -R 1000
    local tx=$pid
    soon there 'len(ports) == 2 and switches["vale1"]["delivered"] > 0'
    kill -9 $(hosts)
    soon ended $rx
    soon ended $tx
    run wait $rx
    grep -q "its host has gone" rx.err
    grep -q "its host has gone" tx.err
    [ -e run/vale1.socket ]  # stale
    list | grep -q '"switches": \[\]'
    nothing_left             # whoever looks removes it
    in_background rx timeout 30 "$tool" -i vale1:a -f rx -n 100
    soon there '"vale1:a" in ports'
    timeout 20 "$tool" -i vale1:b -f tx -n 200 -R 1000
    wait $pid
}

# a_pipe MASTER SLAVE HOST: 5000 frames from the second to the first, all of which arrive.
a_pipe() {
    in_background rx timeout 20 "$tool" -i "$1" -f rx -n 5000 --json
    local rx=$pid
    soon there "len(ports) == 1"
    there "ports['${1#netmap:}']['kind'] == 'pipe' and ports['${1#netmap:}']['slave_pid'] == 0 and '$3' in switches"
    timeout 20 "$tool" -i "$2" -f tx -n 5000 --json >tx.out 2>tx.err
    wait $rx
    json rx.out 'd["packets"] == 5000'
    json tx.out 'd["packets"] == 5000'
    soon nothing_left
}

@test "a pipe between two processes" {
    a_pipe 'netmap:p{1' 'netmap:p}1' p
}

@test "a pipe whose parent is a port of a switch" {
    a_pipe 'vale2:x{3' 'vale2:x}3' vale2
}

@test "an end that is killed: the other one says so, and it can be opened again" {
    in_background rx timeout 30 "$tool" -i 'netmap:p{1' -f rx
    local rx=$pid
    in_background tx timeout 30 "$tool" -i 'netmap:p}1' -f tx -R 1000
    local tx=$pid
    soon there 'ports["p{1"]["master_pid"] != 0 and ports["p{1"]["slave_pid"] != 0'
    go -i 'netmap:p{1' -f rx -n 1
    ends 1 "held by process"
    sleep 0.3
    kill -9 $(pgrep -P $rx)
    soon ended $tx
    grep -q "the process that had the other end has gone" tx.err
    soon nothing_left
    a_pipe 'netmap:p{1' 'netmap:p}1' p
}

@test "nobody has anything to do: everybody sleeps" {
    in_background rx timeout 20 "$tool" -i vale1:a -f rx
    in_background rx2 timeout 20 "$tool" -i vale1:b -f rx
    soon there 'len(ports) == 2'
    sleep 0.5
    python3 - $(hosts) $(for p in "${jobs_of_test[@]}"; do pgrep -P $p; done) <<'PY'
import os, sys, time
used = lambda: [sum(map(int, open(f"/proc/{p}/stat").read().split(") ")[1].split()[11:13])) / os.sysconf("SC_CLK_TCK") for p in sys.argv[1:]]
before = used()
time.sleep(1)
after = used()
assert all(b - a < 0.1 for a, b in zip(before, after)), (before, after)
PY
}

@test "fifty hosts killed: the next one finds its place, and nothing is left" {
    python3 - "$NM_BIN/valectl" <<'PY'
import json, os, signal, subprocess, sys, time
for i in range(50):
    subprocess.run([sys.argv[1], "-a", "vale1:null:x"], check=True, timeout=10)
    hosts = json.loads(subprocess.run([sys.argv[1], "--json", "-l"], check=True, timeout=10, capture_output=True).stdout)["switches"]
    assert len(hosts) == 1 and hosts[0]["ports"][0]["name"] == "vale1:null:x", hosts
    os.kill(hosts[0]["pid"], signal.SIGKILL)
PY
    soon there 'not switches'
    nothing_left
}

@test "who starts at once meets at once" {
    local i
    for i in 1 2 3 4 5 6; do in_background c$i timeout 30 "$tool" -i vale1:p$i -f rx; done
    soon there 'len(ports) == 6'
    [ "$(hosts | wc -l)" -eq 1 ]
}

@test "a directory that others may have laid there is refused" {
    ln -s /tmp run
    go -i vale1:a -f rx -n 1
    ends 1 "not a directory but a link"
    rm run
    mkdir run
    chmod 755 run
    go -i vale1:a -f rx -n 1
    ends 1 "chmod 700"
    if [ "$(id -u)" -eq 0 ]; then
        chmod 700 run
        chown 4321 run
        go -i vale1:a -f rx -n 1
        ends 1 "belongs to user 4321"
    fi
}

@test "wishes that a host refuses" {
    go -i 'vale1:a@conf:slots=16384,rings=16' -f rx -n 1
    ends 1
    go -i 'vale1:a^' -f rx -n 1
    ends 1 "no host rings"
    go -i 'vale1:a@7' -f rx -n 1
    ends 1 "lives in that process's memory"
    soon nothing_left
}

@test "the host answers while others flood it, send rubbish, and stop" {
    in_background rx timeout 40 "$tool" -i vale1:a -f rx
    soon there '"vale1:a" in ports'
    in_background villain timeout 20 python3 - <<'PY'
import array, os, random, socket, struct, time
path = os.environ["NM_RUNTIME_DIR"] + "/vale1.socket"
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.setblocking(False)
    try:
        s.connect(path)
    except OSError:
        return None
    return s
def frame(kind, name=b"", payload=b"", sequence=1):
    return struct.pack("<IHHIiII256s1024s", 0x6c74636e, 1, kind, sequence, 0, len(name), len(payload), name, payload)
random.seed(7)
deaf = [connect() for _ in range(8)]
end = time.time() + 4
while time.time() < end:
    s = connect()
    if s is None: continue
    try:
        for _ in range(random.randrange(6)):
            what = random.randrange(6)
            data = [os.urandom(random.randrange(1, 2000)), frame(1, b"vale1:v%d" % random.randrange(9), bytes(32)), frame(5, b"", b"item 0"),
                    frame(2, b"x{1", bytes(16)), frame(random.randrange(65536), os.urandom(40), os.urandom(500)), frame(5, b"", b"host")][what]
            fds = array.array("i", [0] * random.randrange(254))
            s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if random.random() < 0.5 and len(fds) else [])
        for d in deaf:
            if d: d.send(frame(5, b"", b"host"))
    except OSError:
        pass
    if random.random() < 0.2: deaf.append(s)
PY
    local villain=$pid worst=0 i then
    sleep 0.3
    for i in $(seq 8); do
        then=$(date +%s%N)
        list >/dev/null
        worst=$((worst > $(date +%s%N) - then ? worst : $(date +%s%N) - then))
        sleep 0.2
    done
    echo "slowest valectl, with its start: $((worst / 1000000)) ms"
    [ $worst -lt 1000000000 ]
    there '"vale1:a" in ports'
    local host
    host=$(hosts)
    soon ended $villain
    soon there 'set(ports) == {"vale1:a"}'
    soon test "$(ls /proc/$host/fd | wc -l)" -lt 40
    timeout 20 "$tool" -i vale1:b -f tx -n 200 -R 1000
    soon there 'ports["vale1:a"]["to_port_frames"] >= 200'
}
