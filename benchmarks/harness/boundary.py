# SPDX-License-Identifier: BSD-2-Clause
"""Works between a guest and the host (tests/vm): one guest has a port that is passed through by ivshmem, and a virtio-net
whose TAP is the host's; it takes all samples in one boot, in turn."""

from . import guest

PTNET, NET = "0000:00:04.0", "0000:00:05.0"
HEAD = f"""# SPDX-License-Identifier: BSD-2-Clause
#: memory 256
#: network bench-tap
#: needs bench-ptnet-host nm-host
#: timeout {{seconds}}
#: tools {{programs}}
#: qemu -chardev socket,path=vm.sock,id=nm1 -device ivshmem-doorbell,chardev=nm1,vectors=3,addr=4
#: qemu -netdev tap,id=t,ifname=nmtap,script=no,downscript=no -device virtio-net-pci,netdev=t,addr=5,mac=02:00:00:00:00:02
"""
# The frames are for that address; a NIC that is not promiscuous throws others away.
NAMES = {"ptnet": f"ptnet:{PTNET}", "tap": "$tap"}


def scenario(works, rounds, seconds):
    """The scenario for tests/vm/run, and the round's plan: sample number i is that of plan[i % len(plan)]."""
    turns = guest.plan(works)
    lines = [guest.SCRIPT.format(limit=guest.SAMPLE_SECONDS), "modprobe virtio_net", f"vfio {PTNET}", f"tap=$(up {NET})"]
    for number in range(rounds * len(turns)):
        _, contestant, way = turns[number % len(turns)]
        words = [*[word.format(**NAMES) for word in contestant.command], *(["--mode", way] if way else [])]
        lines.append(f"sample {number} {' '.join(words)} --seconds {seconds}")
    lines.append("step samples true")
    programs = " ".join(dict.fromkeys([*(contestant.command[0] for _, contestant, _ in turns), "nm-host"]))
    return HEAD.format(seconds=60 + 4 * rounds * len(turns), programs=programs) + "\n".join(lines) + "\n", turns
