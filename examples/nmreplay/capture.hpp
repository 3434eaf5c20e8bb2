// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace nmreplay {

/// A capture file, frame by frame, as libpcap reads it. Throws tool::run_error.
class capture {
public:
    /// `file`: "-" is standard input.
    explicit capture(std::string file);
    ~capture();
    capture(const capture&) = delete;
    capture& operator=(const capture&) = delete;

    struct frame {
        std::uint64_t stamp_ns = 0;
        std::uint32_t length = 0;    ///< as it was on the wire
        std::uint32_t captured = 0;  ///< of it are in the file
        const std::uint8_t* data = nullptr;
    };
    enum class found { frame, end, broken };
    /// The next frame; its data is good until the next call. broken: trouble() says how.
    [[nodiscard]] found next(frame& f);
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }
    /// From the beginning again. Not for pipes.
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
