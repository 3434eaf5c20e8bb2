// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kept.hpp"

namespace nmreplay {

/// A capture file, frame by frame, as libpcap reads it. Throws tool::run_error.
class capture {
public:
    /// `file`: "-" is standard input.
    explicit capture(std::string file);
    ~capture();
    capture(const capture&) = delete;
    capture& operator=(const capture&) = delete;

    enum class found { frame, end, broken };
    /// broken: trouble() says how.
    [[nodiscard]] found next(captured& f);
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }
    /// Whether there is a beginning to go back to: not in a pipe, or what a shell makes of <(command).
    [[nodiscard]] bool can_rewind() const noexcept;
    void rewind();
    /// Called when a read has to wait for a pipe, and then every 100 ms; false: the read ends.
    void on_wait(std::function<bool()> f);

    [[nodiscard]] static const char* support() noexcept;  ///< "libpcap ..." or "no libpcap"

private:
    struct reader;
    std::string file_, trouble_;
    std::unique_ptr<reader> reader_;
};

}  // namespace nmreplay
