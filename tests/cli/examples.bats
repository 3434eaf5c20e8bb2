#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The small examples check themselves and end by themselves. (Presets build them where NM_BUILD_EXAMPLES is on.)

load tool

example() {
    [ -x "$NM_BIN/$1" ] || skip "$1 is not built in this preset"
    tool=$NM_BIN/$1
    go
    ends 0
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
