// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace nm_dump {

/// An expression of pcap-filter(7), run over a frame's first slot. Empty: everything passes.
class filter {
public:
    filter();
    explicit filter(const std::string& expression);  ///< throws tool::usage_error
    ~filter();
    filter(const filter&) = delete;
    filter& operator=(const filter&) = delete;

    [[nodiscard]] bool passes(std::span<const std::uint8_t> bytes) const noexcept;
    [[nodiscard]] static const char* support() noexcept;

private:
    struct program;
    std::unique_ptr<program> program_;
};

}  // namespace nm_dump
