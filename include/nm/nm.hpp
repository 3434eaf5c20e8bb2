// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// All of nm. Start reading at concepts.hpp, sync.hpp and fuse.hpp; each kind of port is one header under ports/. A program
// that opens kernel interfaces links nm::sys; for pipes nm::nm is enough, whatever is included.

#include "nm/any_port.hpp"
#include "nm/concepts.hpp"
#include "nm/context.hpp"
#include "nm/dispatch.hpp"
#include "nm/fuse.hpp"
#include "nm/port.hpp"
#include "nm/ports/e1000.hpp"
#include "nm/ports/ixgbe.hpp"
#include "nm/ports/monitor.hpp"
#include "nm/ports/netdev.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"
#include "nm/ports/shared_pipe.hpp"
#include "nm/ports/virtio_net.hpp"
#include "nm/ports/vmxnet3.hpp"
#include "nm/ptnet/port.hpp"
#include "nm/ptnet/process.hpp"
#include "nm/vale/five_tuple.hpp"
#include "nm/vale/switch.hpp"
#include "nm/vale/vlan.hpp"
#include "nm/version.hpp"
#include "nm/vnet_hdr.hpp"
#include "nm/wait.hpp"

namespace nm {

/// Every kind of port there is, for a name known only at run time. Pipes and switches are this program's own.
using all_ports = port_list<netdev, pipe, vale_port, null_port, monitor, nic<e1000>, nic<virtio_net>, nic<vmxnet3>, nic<ixgbe>, ptnet_port>;

/// The same for programs that meet others, as netmap's do: pipes and switches are those of all programs of this user.
using process_ports = port_list<netdev, shared_pipe, own_monitor, process_port, null_port, nic<e1000>, nic<virtio_net>, nic<vmxnet3>, nic<ixgbe>, ptnet_port>;

/// What a port of any kind would be, without opening it. (A template, so that only who asks compiles the answers.)
template <class = void>
[[nodiscard]] result<port_info> query(context& ctx, std::string_view name, const open_options& o = {}) {
    return query<all_ports>(ctx, name, o);
}

}  // namespace nm
