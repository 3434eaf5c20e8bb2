// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// virtio queues: no call in the per-packet loop, but for frames that are merged, or completions that cannot be.
// cold: nm::virtio::(lied|skip|postings::part|flights::overtake)\(
// cold: ::put_odd\(
#include "nic_roads.hpp"
#include "nm/ports/virtio_net.hpp"

template struct nic_roads<nm::virtio_net>;
