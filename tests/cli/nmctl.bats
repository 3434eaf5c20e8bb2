#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# nmctl as far as no device changes hands; tests/vm/scenarios/binding does that, in a guest.

load tool

setup() {
    tool=$NM_BIN/nmctl
    cd "$BATS_TEST_TMPDIR"
}

@test "says what it is" {
    go --help
    ends 0 "nmctl bind"
    says "--force"
    go bind --help
    ends 0 "gives them to vfio-pci"
    [[ $output != *--listen* ]]
    go doctor --version
    ends 0 "nmctl doctor (nm "
    go --version
    ends 0 "nmctl (nm "
}

@test "a command line that cannot be meant" {
    usage "say what to do"
    usage "no command of this program" bnid
    usage "which devices" unbind
    usage "which devices" bind --kernel
    usage "say which" bind --force
    usage "--force is no option" unbind --force 0000:01:00.0
    usage "not for giving it back" bind --kernel --force 0000:01:00.0
    usage "--jsn is no option" bind --jsn
    usage "--listen is no option" bind --listen 1
    usage "the command comes first" --json doctor
}

@test "shows the network devices there are" {
    go bind
    ends 0
    if [ -n "$(grep -l '^0x02' /sys/bus/pci/devices/*/class 2>/dev/null)" ]; then says "ADDRESS"; else says "no PCI network devices"; fi
}

@test "shows them as JSON" {
    timeout 20 "$tool" bind --json >out
    json out 'len(d["devices"]) == sum(1 for p in __import__("glob").glob("/sys/bus/pci/devices/*/class") if open(p).read().startswith("0x02"))'
    json out 'all({"address", "vendor", "device", "driver", "interfaces", "iommu_group", "in_use", "default_route", "nm"} <= set(x) for x in d["devices"])'
}

@test "devices that are not there" {
    go bind ffff:ff:1f.7
    ends 1 "there is no PCI device ffff:ff:1f.7"
    go unbind ffff:ff:1f.7
    ends 1 "there is no PCI device ffff:ff:1f.7"
    go bind no-such-interface0
    ends 1 "neither a PCI address"
    go bind lo
    ends 1 "not a PCI device's interface"
}

@test "each of several has its say" {
    go bind ffff:ff:1f.7 lo --json
    ends 1 "there is no PCI device"
    says "not a PCI device's interface"
    says '{"devices": []}'
}
