// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/failure.hpp"

#include "nm/ports/monitor.hpp"
#include "nm/ptnet/watch.hpp"

namespace tool {

using watch_permits = std::vector<std::unique_ptr<nm::watch_permit<nm::monitor>>>;

/// --watchable: other programs of this user may open this port's monitors while what is returned lives. Destroyed before the port.
inline void let_watch(watch_permits& permits, nm::context& ctx, const std::string& port) {
    auto permit = nm::watch_permit<nm::monitor>::create(ctx, port);
    if (!permit) throw run_error("--watchable: " + permit.error().text);
    permits.push_back(std::move(*permit));
}

}  // namespace tool
