// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "pcapng.hpp"

#include <algorithm>
#include <cstring>

#include "common/write_all.hpp"

namespace nm_dump {

namespace {
constexpr std::uint32_t section_header = 0x0a0d0d0a, interface_description = 1, interface_statistics_block = 5,
                        enhanced_packet = 6;
constexpr std::uint16_t link_ethernet = 1;
constexpr std::uint16_t end_of_options = 0, if_name = 2, if_description = 3, if_tsresol = 9, shb_userappl = 4, epb_flags = 2,
                        isb_starttime = 2, isb_endtime = 3, isb_ifrecv = 4, isb_ifdrop = 5;
constexpr std::size_t epb_lengths = 20;  // from the block's beginning to its two lengths
}  // namespace

void pcapng_writer::section(std::string_view program) {
    open_block(section_header);
    put32(0x1a2b3c4d);
    put16(1);
    put16(0);
    put64(~std::uint64_t{0});  // how long it is nobody knows yet
    option(shb_userappl, program);
    option(end_of_options, {});
    close_block();
}

std::uint32_t pcapng_writer::interface(std::string_view name, std::string_view description, std::uint32_t snaplen) {
    open_block(interface_description);
    put16(link_ethernet);
    put16(0);
    put32(snaplen);
    option(if_name, name);
    option(if_description, description);
    option(if_tsresol, std::string_view("\x09", 1));  // 10 to the minus 9 seconds
    option(end_of_options, {});
    close_block();
    snaplens_.push_back(snaplen);
    return static_cast<std::uint32_t>(snaplens_.size() - 1);
}

void pcapng_writer::begin(std::uint32_t interface, std::uint64_t when_ns) {
    open_block(enhanced_packet);
    put32(interface);
    time(when_ns);
    put32(0);
    put32(0);
    snaplen_ = snaplens_[interface];
    kept_ = seen_ = 0;
}

void pcapng_writer::add(const std::uint8_t* data, std::size_t len) {
    const std::size_t keep = std::min<std::size_t>(len, snaplen_ - kept_);
    put(data, keep);
    kept_ += static_cast<std::uint32_t>(keep);
    seen_ += static_cast<std::uint32_t>(len);
}

void pcapng_writer::end(direction d) {
    set32(block_ + epb_lengths, kept_);
    set32(block_ + epb_lengths + 4, seen_);
    pad();
    if (d != direction::unknown) {
        const auto flags = static_cast<std::uint32_t>(d);
        option(epb_flags, std::string_view(reinterpret_cast<const char*>(&flags), sizeof flags));
        option(end_of_options, {});
    }
    close_block();
}

void pcapng_writer::interface_statistics(std::uint32_t interface, const statistics& s) {
    open_block(interface_statistics_block);
    put32(interface);
    time(s.ended_ns);
    for (const auto& [code, ns] : {std::pair{isb_starttime, s.began_ns}, std::pair{isb_endtime, s.ended_ns}}) {
        put16(code);
        put16(8);
        time(ns);
    }
    option64(isb_ifrecv, s.received);
    option64(isb_ifdrop, s.dropped);
    option(end_of_options, {});
    close_block();
}

void pcapng_writer::flush() {
    try {
        tool::write_all(fd_, buffer_, name_);
    } catch (...) {
        buffer_.clear();  // what the others said of it is said
        throw;
    }
    buffer_.clear();
}

void pcapng_writer::put(const void* data, std::size_t n) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    buffer_.insert(buffer_.end(), p, p + n);
}
// Blocks begin at multiples of 4, so the buffer's end tells.
void pcapng_writer::pad() { buffer_.resize((buffer_.size() + 3) / 4 * 4); }

void pcapng_writer::option(std::uint16_t code, std::string_view value) {
    put16(code);
    put16(static_cast<std::uint16_t>(value.size()));
    put(value.data(), value.size());
    pad();
}
void pcapng_writer::option64(std::uint16_t code, std::uint64_t value) {
    put16(code);
    put16(8);
    put64(value);
}
// The upper half comes first, whatever the byte order.
void pcapng_writer::time(std::uint64_t ns) {
    put32(static_cast<std::uint32_t>(ns >> 32));
    put32(static_cast<std::uint32_t>(ns));
}
void pcapng_writer::set32(std::size_t at, std::uint32_t v) { std::memcpy(buffer_.data() + at, &v, sizeof v); }

void pcapng_writer::open_block(std::uint32_t type) {
    block_ = buffer_.size();
    put32(type);
    put32(0);
}
void pcapng_writer::close_block() {
    const auto length = static_cast<std::uint32_t>(buffer_.size() - block_ + 4);
    set32(block_ + 4, length);
    put32(length);
}

}  // namespace nm_dump
