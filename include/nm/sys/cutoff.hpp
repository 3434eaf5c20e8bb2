// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Disconnects the host stack from an interface while a port is open on it (netmap(4): "the data path is disconnected
// from the host stack"). Held by descriptors alone, so that it ends with the process, however that dies.

#include <optional>

#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/link.hpp"

namespace nm::sys {

struct cutoff_options {
    bool ingress = true;
    bool egress = true;
    /// Only the frames that arrive on this receive queue. Egress has no queue yet where it could be stopped, so it
    /// cannot be asked for together with a queue.
    std::optional<unsigned> queue{};
    /// The port sends by AF_PACKET: its frames must get past the egress hook.
    bool sends_by_packet = false;
    /// With host rings: what the stack sends goes to this interface in place of nowhere,
    unsigned divert_to = 0;
    /// and frames with this mark reach the stack all the same, without it.
    std::uint32_t pass = 0;
    /// The mark of a cutoff that this one is to replace.
    std::uint32_t mark = 0;
};

/// AF_PACKET and XDP receive before the ingress hook, and AF_XDP sends behind the egress hook: only the stack is deaf
/// and dumb. AF_PACKET with PACKET_QDISC_BYPASS sends behind a tcx program, but (since Linux 5.17) not behind nf_tables:
/// there its frames show a mark, which is taken off again.
class cutoff {
public:
    [[nodiscard]] static result<cutoff> open(const link_info& link, const cutoff_options& options) noexcept;
    /// "nf_tables" or "tcx"
    [[nodiscard]] const char* how() const noexcept { return table_ ? "nf_tables" : "tcx"; }
    /// What a socket that sends by AF_PACKET sets as its SO_MARK; 0: nothing.
    [[nodiscard]] std::uint32_t mark() const noexcept { return mark_; }

private:
    base::unique_fd table_;  // the netlink socket that owns the table
    base::unique_fd ingress_;
    base::unique_fd egress_;
    std::uint32_t mark_ = 0;
};

}  // namespace nm::sys
