// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What this process may do here, found out by looking, or by trying what leaves nothing behind.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nmctl {

struct kernel_version {
    unsigned major = 0, minor = 0;
    std::string release;
    [[nodiscard]] bool at_least(unsigned a, unsigned b) const noexcept { return major > a || (major == a && minor >= b); }
};

struct powers {
    kernel_version kernel;
    bool root = false;           ///< by number
    bool net_raw = false;        ///< a packet socket
    bool net_admin = false;      ///< over this network namespace
    bool bpf = false;            ///< load a program
    bool ipc_lock = false;       ///< no limit to locked memory
    bool has_af_xdp = false;     ///< the kernel knows it
    std::uint64_t memlock = 0;   ///< bytes; ~0: no limit
    [[nodiscard]] bool xdp() const noexcept { return net_raw && net_admin && bpf && has_af_xdp; }
    [[nodiscard]] bool tcx() const noexcept { return net_admin && bpf && kernel.at_least(6, 6); }
};
[[nodiscard]] powers look_at_powers();

/// Whether the interface's driver has AF_XDP zero-copy, as the kernel says (Linux 6.3 and later). Nothing: it does not say.
[[nodiscard]] std::optional<bool> has_zero_copy(unsigned index);

/// Names of nm's that programs hold on the interface: "", "/0", "/host".
[[nodiscard]] std::vector<std::string> claims_on(unsigned index);

/// The file's first line; empty when it cannot be read.
[[nodiscard]] std::string first_line(const std::string& path);
/// What a command prints, both ways, within ten seconds; empty when it cannot be run.
[[nodiscard]] std::string output_of(const std::vector<std::string>& command);
/// Where a program of that name is in PATH; empty: nowhere.
[[nodiscard]] std::string in_path(const std::string& program);

}  // namespace nmctl
