#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# nmctl doctor: it says what is so, changes nothing, and its exit status is about the ports that are named.

load tool

setup_file() {
    namespaces nmdoc w || return 0
    ip -n ${ns}w link add dv0 type veth peer name dv1
    ip -n ${ns}w link set dv0 up
    ip -n ${ns}w link set dv1 up
    ip -n ${ns}w link add dvdown type veth peer name dvdown1
    namespaces_ready
}
teardown_file() { end_namespaces; }
setup() {
    tool=$NM_BIN/nmctl
    cd "$BATS_TEST_TMPDIR"
}
doctor() { go doctor "$@"; }
doctor_there() { run timeout 20 ip netns exec "${ns}w" "$tool" doctor "$@"; }

@test "all of the machine" {
    doctor
    ends 0
    local topic
    for topic in kernel privileges memory devices programs "virtual machines" build; do says "$topic"; done
    says "Linux $(uname -r)"
    says "pipes and VALE switches: always"
    says "$NM_BIN/nm-host"
    # Each thing that is missing has its remedy under it, and nothing else has one.
    python3 - <<PY
lines = """$output""".splitlines()
for n, line in enumerate(lines):
    following = lines[n + 1] if n + 1 < len(lines) else ""
    bad = line.startswith("  could be better") or line.startswith("  cannot")
    assert bad == following.strip().startswith("> "), (line, following)
    assert not bad or len(following.strip()) > 4, following
PY
}

@test "as JSON" {
    timeout 20 "$tool" doctor --json >out
    json out 'd["type"] == "doctor" and d["ok"] is True'
    json out 'all(set(f) == {"topic", "level", "what", "remedy"} and f["level"] in ("ok", "could be better", "cannot") for f in d["findings"])'
    json out 'all(bool(f["remedy"]) == (f["level"] != "ok") for f in d["findings"])'
}

@test "bad command lines" {
    usage "--jsn is no option" doctor --jsn
    usage "takes no value" doctor --json=1
    usage "doctor:" doctor 'netmap:a{b{c'
    usage "--help" doctor 'nosuchkind:x:y'
    go doctor --help
    ends 0 "the only ones that the exit status is about"
}

@test "it makes nothing" {
    doctor vale1:a 'netmap:p{1'
    ends 0
    doctor
    [ ! -e "$NM_RUNTIME_DIR" ]
}

@test "ports that are named" {
    doctor vale1:a 'netmap:p{1' null:x
    ends 0 "vale1:a: opens"
    says "null:x: opens as null"
    doctor nosuch0
    ends 1 "no interface 'nosuch0'"
    doctor null:x lo
    ends 1 "does not carry Ethernet"
    doctor ffff:ff:1f.7
    ends 1 "no PCI device ffff:ff:1f.7"
    doctor ptnet:ffff:ff:1f.7
    ends 1 "no PCI device ffff:ff:1f.7"
    timeout 20 "$tool" doctor --json null:x nosuch0 >out || true
    json out 'd["ok"] is False and {f["topic"] for f in d["findings"]} == {"null:x", "netmap:nosuch0"}'
}

@test "the directory where programs meet" {
    mkdir -m 755 open
    NM_RUNTIME_DIR=$PWD/open doctor
    ends 0 "open to other users"
    says "> chmod 700 $PWD/open"
    NM_RUNTIME_DIR=$PWD/open doctor vale1:a
    ends 1 "open to other users"
    ln -s open link
    NM_RUNTIME_DIR=$PWD/link doctor vale1:a
    ends 1 "is not a directory but a link"
    NM_RUNTIME_DIR=$PWD/no/such/place doctor
    ends 0 "cannot be made"
    # What a host that was killed has left; and one that lives.
    in_background host "$NM_BIN/nm-host" --keep vale1
    soon "$NM_BIN/valectl" -l vale1
    doctor
    ends 0 "1 host running"
    kill -9 $pid
    wait $pid || true
    doctor
    ends 0 "1 host was killed"
    says "> valectl"
    [ -e "$NM_RUNTIME_DIR/vale1.lock" ]
}

@test "a port that somebody has open" {
    in_background holder "$NM_BIN/pkt-gen" -i vale1:a -f rx
    soon there '"vale1:a" in ports'
    doctor vale1:a
    ends 1 "is open in process"
    doctor vale1:b
    ends 0
}

@test "no nm-host" {
    cp "$tool" alone
    run timeout 20 env -u NM_LIBEXEC ./alone doctor vale1:a
    [ "$status" -eq 0 ] && skip "an nm-host is installed on this machine"
    ends 1 "nm-host"
    says "> export NM_LIBEXEC"
}

@test "no QEMU in PATH" {
    PATH=/nowhere run "$tool" doctor
    ends 0 "no qemu-system-"
}

@test "an ordinary user hears what root could do" {
    [ "$(id -u)" -eq 0 ] || skip "is one"
    chmod 755 . ..
    run timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups env -u NM_RUNTIME_DIR -u XDG_RUNTIME_DIR "$tool" doctor
    ends 0 "no CAP_NET_RAW, no CAP_NET_ADMIN"
    says "you are user 65534"
    says "sudo nmctl doctor"
    run timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups env NM_RUNTIME_DIR=/tmp/nm-nobody-$$ "$tool" doctor vale1:a
    ends 0 "opens, without privileges"
    [ ! -e /tmp/nm-nobody-$$ ]
}

@test "memory that may be locked" {
    [ "$(id -u)" -eq 0 ] || skip "not root: the limit is what it is"
    run timeout 20 sh -c 'ulimit -l 64; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" doctor' "$tool"
    ends 0 "limited to 64 KiB"
    says "> ulimit -l 65536"
}

@test "interfaces: their mode, and what is in the way" {
    needs_namespaces
    doctor_there dv0
    ends 0 "opens as af_packet"
    says "ethtool -K dv1 tx off"
    ip netns exec ${ns}w ethtool -K dv1 tx off tso off txvlan off >/dev/null 2>&1
    ip netns exec ${ns}w ethtool -K dv0 gro off lro off >/dev/null 2>&1
    doctor_there dv0
    ends 0 "opens as af_xdp copy"
    doctor_there dvdown
    ends 1 "is down"
    says "> ip link set dvdown up"
    ip -n ${ns}w link set dv0 mtu 9000
    doctor_there netmap:dv0
    ends 0 "buffers of"
    ip -n ${ns}w link set dv0 mtu 1500
    doctor_there
    ends 0 "dv0"
    # As a user of that namespace: by its capabilities, not by the number 0.
    run timeout 20 ip netns exec ${ns}w setpriv --reuid 65534 --regid 65534 --clear-groups "$tool" doctor dv0
    ends 1 "has no CAP_NET_RAW"
    run timeout 20 setpriv --bounding-set -net_admin --inh-caps -net_admin ip netns exec ${ns}w "$tool" doctor dv0
    [ "$status" -eq 1 ]
}

@test "an interface that a program has open" {
    needs_namespaces
    in_background holder ip netns exec ${ns}w "$NM_BIN/pkt-gen" -i netmap:dv0 -f rx
    soon grep -q "rx rings" holder.err
    doctor_there dv0
    if grep -q af_packet holder.err; then ends 1 "open in another program"; else ends 0; fi
    doctor_there dv1
    ends 0
}

@test "the interface of the default route" {
    needs_namespaces
    ip -n ${ns}w addr add 10.83.0.1/24 dev dv1
    ip -n ${ns}w route add default via 10.83.0.2
    doctor_there dv1
    ends 0 "carries the default route"
    doctor_there 'dv1*'
    [[ $output != *"takes this machine off"* ]]
    ip -n ${ns}w route del default
}
