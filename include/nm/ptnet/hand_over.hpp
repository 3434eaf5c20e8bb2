// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// From a service to a client of another process: the answer to its `open` (sys/control.hpp), with what it needs to use the port.

#include <memory>
#include <utility>
#include <vector>

#include "nm/base/pipe_wakes.hpp"
#include "nm/ptnet/host_memory.hpp"
#include "nm/ptnet/service.hpp"
#include "nm/sys/control.hpp"

namespace nm::ptnet {

/// An answer to be sent with `fds`, which are the service's, the memory's, and those of `wakes`.
struct handed_over {
    sys::control_message answer;
    std::vector<int> fds;
    std::vector<base::unique_fd> wakes;
};

/// Before the service is visited. It wakes the client so that no client can make it wait: by pipes, or, for one that needs eventfds, by
/// `bell`.
[[nodiscard]] inline result<handed_over> hand_over(service& s, const host_memory& memory, std::shared_ptr<base::kernel_bell> bell = {}) {
    handed_over h;
    if (bell) {
        s.wake_by(std::move(bell));
    } else {
        for (unsigned v = 0; v < s.vectors(); ++v) {
            auto wake = pipe_wakes::make();
            if (!wake) return forward_error(wake);
            h.wakes.push_back(std::move(*wake));
        }
        auto ours = pipe_wakes::reopen(h.wakes);
        if (!ours) return forward_error(ours);
        s.wake_by(std::move(*ours));
    }
    h.fds.push_back(memory.fd());
    for (unsigned v = 0; v < s.vectors(); ++v) h.fds.push_back(s.kick_fd(v));
    for (unsigned v = 0; v < s.vectors(); ++v) h.fds.push_back(h.wakes.empty() ? s.irq_fd(v) : h.wakes[v].get());
    h.answer.type = sys::control_type::answer;
    h.answer.put(sys::port_words{.size = memory.size(), .port = 0, .vectors = s.vectors()});
    return h;
}

}  // namespace nm::ptnet
