// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// pcapng, as far as a capture of Ethernet frames needs it: draft-ietf-opsawg-pcapng, sections 4.1 to 4.3 and 4.6. Everything
// is in this machine's byte order, which the section header tells.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nm_dump {

enum class direction : std::uint32_t { unknown = 0, inbound = 1, outbound = 2 };

class pcapng_writer {
public:
    /// `fd` stays the caller's.
    explicit pcapng_writer(int fd, std::string name) : fd_(fd), name_(std::move(name)) { buffer_.reserve(flush_at * 8); }

    void section(std::string_view program);
    /// Gives the interface's number.
    std::uint32_t interface(std::string_view name, std::string_view description, std::uint32_t snaplen);

    // A packet comes in pieces: begin, any number of add, end.
    void begin(std::uint32_t interface, std::uint64_t when_ns);
    void add(const std::uint8_t* data, std::size_t len);
    void end(direction d);

    struct statistics {
        std::uint64_t began_ns, ended_ns, received, dropped;
    };
    void interface_statistics(std::uint32_t interface, const statistics& s);

    /// Writes out what has been gathered. Throws tool::run_error.
    void flush();
    void flush_if_much() {
        if (buffer_.size() >= flush_at) flush();
    }

private:
    static constexpr std::size_t flush_at = 256 * 1024;

    void put16(std::uint16_t v) { put(&v, sizeof v); }
    void put32(std::uint32_t v) { put(&v, sizeof v); }
    void put64(std::uint64_t v) { put(&v, sizeof v); }
    void put(const void* data, std::size_t n);
    void pad();
    void option(std::uint16_t code, std::string_view value);
    void option64(std::uint16_t code, std::uint64_t value);
    void time(std::uint64_t ns);
    void set32(std::size_t at, std::uint32_t v);
    void open_block(std::uint32_t type);
    void close_block();

    int fd_;
    std::string name_;
    std::vector<std::uint8_t> buffer_;
    std::vector<std::uint32_t> snaplens_;
    std::size_t block_ = 0;   // where the open block begins
    std::uint32_t kept_ = 0;  // bytes of the open packet
    std::uint32_t seen_ = 0;
    std::uint32_t snaplen_ = 0;
};

}  // namespace nm_dump
