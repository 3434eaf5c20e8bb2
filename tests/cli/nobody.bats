#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What an ordinary user is told: what is missing, and what to do; and what needs no privileges. nmctl's part is in top.bats and
# doctor.bats.

load tool

setup_file() {
    namespaces nmnb w || return 0
    ip -n ${ns}w link add nb0 type veth peer name nb1 && ip -n ${ns}w link set nb0 up && ip -n ${ns}w link set nb1 up || return 0
    namespaces_ready
}
teardown_file() { end_namespaces; }
setup() {
    needs_nobody
    cd "$nobody"
}
teardown() {
    cd /
    end_jobs
    end_nobody
}
there_as_nobody() { in_ns w timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR NM_RUNTIME_DIR="$nobody/nm" "$@"; }

@test "an interface: which capability is missing, what to do, and nothing is left" {
    needs_namespaces
    while read -r line; do
        read -ra words <<<"$line"
        [ -x "$NM_BIN/${words[0]}" ] || continue  # left out of this build, aloud
        run there_as_nobody "$NM_BIN/${words[0]}" "${words[@]:1}" </dev/null
        ends 1 "CAP_NET_" && says "run as root" || { echo "$line"; return 1; }
        [[ $output == *nb0* || $output == *x9* ]] || { echo "$line: $output"; return 1; }
    done <<'END'
pkt-gen -i netmap:nb0 -f rx
pkt-gen -i netmap:nb0^ -f rx
bridge -i netmap:nb0 -i netmap:nb1
bridge -i netmap:nb0
lb -i netmap:nb0 -p out:2
nmreplay --record x.pcap -i netmap:nb0
switch -i nb0 -i nb1
switch -h nb0
nm-dump -i netmap:nb0/rt -w x.pcapng
ptnet-host -s vm.sock -i netmap:nb0
ptnet-if -i netmap:p{1 -n x9
valectl -a vale1:nb0
valectl -n vale1:x9
nmctl doctor nb0
END
    gone() { [ -z "$(ls -A nm 2>/dev/null)" ]; }
    soon gone
    [ -z "$(ls | grep -vx 'nm\|soon')" ]
}

@test "pipes and switches need nothing" {
    run as_nobody "$NM_BIN/pkt-gen" -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -n 1000 --expect-loss 0
    ends 0
    run as_nobody "$NM_BIN/pkt-gen" -i vale1:a -f tx -n 1000
    ends 0 "Sent 1000 packets"
    run as_nobody "$NM_BIN/lb" -i 'netmap:in{1' -p out:1 --feed 'netmap:in}1' --drain 'netmap:out}0' -n 1000 -B 1000 --expect-loss 0
    ends 0 "conserved"
    run as_nobody "$NM_BIN/nmreplay" --record x.pcap -i 'netmap:r{1' --peer 'netmap:r}1' -n 100
    ends 0
}

@test "switches of others are not seen, and that is said" {
    in_background root "$NM_BIN/nm-host" --keep vale1
    soon "$NM_BIN/valectl" -l vale1
    run as_nobody "$NM_BIN/valectl"
    ends 0 "there is no switch and no pipe of other processes (in $nobody/nm; only those of user 65534 are seen, and sudo valectl shows root's)"
    # The directory of another user is not taken for one's own.
    run timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups env NM_RUNTIME_DIR="$NM_RUNTIME_DIR" "$NM_BIN/valectl" -l
    ends 1 "that programs meet in"
}
