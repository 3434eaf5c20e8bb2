// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// vmxnet3's queues: no call in the per-packet loop.
// cold: ::put_odd\(
#include "nic_roads.hpp"
#include "nm/ports/vmxnet3.hpp"

template struct nic_roads<nm::vmxnet3>;
