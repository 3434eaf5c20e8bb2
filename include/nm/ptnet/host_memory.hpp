// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The serving side's memory: what a guest, or another process, may see of this one, and nothing else (rules R5, R9).

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "nm/ptnet/regs.hpp"
#include "nm/region.hpp"

namespace nm::ptnet {

/// One piece of memory, a sealed memfd or what somebody else made: a directory, then one region per port that is passed through
/// in it. For one client: who maps it sees all ports in it. Made to be used by one thread at a time; the ports in it may be
/// served by others.
class host_memory : public std::enable_shared_from_this<host_memory> {
public:
    static constexpr std::size_t max_bytes = std::size_t{4} << 30;
    static constexpr std::size_t align = 65536;  ///< of regions, and of buffer 0: what DMA engines ask for

    /// `bytes` is rounded up to a power of two, which a PCI BAR must be. Pages cost nothing until they are touched. In front of it in
    /// the memfd are `lead_in` bytes, whole pages, which are the caller's.
    [[nodiscard]] static result<std::shared_ptr<host_memory>> create(std::size_t bytes, std::size_t lead_in = 0) {
        if (bytes > max_bytes) return fail(ENOMEM, "ports that need " + std::to_string(bytes) + " bytes of memory; ask for fewer slots (@conf:slots=N)");
        const std::size_t size = std::bit_ceil(std::max(bytes + directory_bytes + align, std::size_t{1} << 20));
        auto fd = base::make_memfd("nm-ptnet", lead_in + size);
        if (!fd) return forward_error(fd);
        auto map = base::map(size, MAP_SHARED, fd->get(), static_cast<off_t>(lead_in));
        if (!map) return forward_error(map);
        struct held {
            base::unique_fd fd;
            base::mapping map;
        };
        const int number = fd->get();
        auto* const at = map->data();
        auto keep = std::make_shared<held>(held{std::move(*fd), std::move(*map)});
        auto m = std::shared_ptr<host_memory>(new host_memory(std::move(keep), at, size, number));
        m->begin();
        return m;
    }
    /// In memory that somebody else made, and `keep` keeps: a PCI device's that another virtual machine sees too. Whatever was there is
    /// forgotten. It may not be smaller than promised later.
    [[nodiscard]] static result<std::shared_ptr<host_memory>> within(std::shared_ptr<void> keep, std::byte* base, std::size_t size) {
        if (size < directory_bytes + align || reinterpret_cast<std::uintptr_t>(base) % page != 0)
            return fail(EINVAL, "the memory has " + std::to_string(size) + " bytes, which is too little for a port");
        auto m = std::shared_ptr<host_memory>(new host_memory(std::move(keep), base, size, -1));
        std::memset(base, 0, directory_bytes);
        m->begin();
        return m;
    }

    [[nodiscard]] int fd() const noexcept { return fd_; }  ///< -1: not this program's to hand out
    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] memory_directory& directory() const noexcept { return *reinterpret_cast<memory_directory*>(base_); }
    /// Whom a guest's doorbells are for, where the transport numbers its peers (ivshmem).
    void set_host_id(std::uint32_t id) noexcept { directory().host_id = id; }

    /// What one port got.
    struct place {
        region_ptr memory;
        port_registers* registers = nullptr;
    };
    /// Bytes that place_port takes.
    [[nodiscard]] static std::size_t bytes_for(std::uint32_t bufs, std::uint32_t buf_size, std::size_t meta_bytes) noexcept {
        return up(up(meta_bytes) + static_cast<std::size_t>(bufs) * buf_size);
    }
    /// A region for one more port, and its entry in the directory, which nobody sees yet.
    [[nodiscard]] result<place> place_port(std::uint32_t bufs, std::uint32_t buf_size, std::size_t meta_bytes) {
        const std::size_t bytes = bytes_for(bufs, buf_size, meta_bytes);
        if (ports_ == max_ports) return fail(ENOSPC, "a memory device has up to " + std::to_string(max_ports) + " ports");
        if (bytes > size() - used_) return fail(ENOMEM, "the memory of " + std::to_string(size()) + " bytes has no room for one more port");
        auto r = region::within(shared_from_this(), base() + used_, bytes, up(meta_bytes), bufs, buf_size, true);
        if (!r) return forward_error(r);
        place p{std::move(*r), &directory().port[ports_]};
        p.registers->region_offset = used_;
        p.registers->region_size = bytes;
        used_ += bytes;
        return p;
    }
    /// How much is taken; and, when what was placed since could not be served after all, back to that.
    struct marked {
        std::size_t bytes;
        unsigned vectors;
    };
    [[nodiscard]] marked mark() const noexcept { return {used_, vectors_}; }
    void back_to(const marked& m) noexcept {
        used_ = m.bytes;
        vectors_ = m.vectors;
    }
    /// The first of so many doorbell vectors.
    [[nodiscard]] unsigned take_vectors(unsigned n) noexcept { return std::exchange(vectors_, vectors_ + n); }
    /// The port that was placed last may be seen.
    void publish_port() noexcept { __atomic_store_n(&directory().ports, ++ports_, __ATOMIC_RELEASE); }
    [[nodiscard]] unsigned ports() const noexcept { return ports_; }
    [[nodiscard]] unsigned vectors() const noexcept { return vectors_; }

private:
    host_memory(std::shared_ptr<void> keep, std::byte* base, std::size_t size, int fd) noexcept
        : keep_(std::move(keep)), base_(base), size_(size), fd_(fd) {}
    void begin() {
        auto& d = directory();
        d.version = memory_version;
        d.size = size_;
        std::random_device any;
        d.identity = std::uint64_t{any()} << 32U | any();
        __atomic_store_n(&d.magic, memory_magic, __ATOMIC_RELEASE);
    }
    [[nodiscard]] static constexpr std::size_t up(std::size_t n) noexcept { return (n + align - 1) / align * align; }

    std::shared_ptr<void> keep_;
    std::byte* base_;
    std::size_t size_;
    int fd_;
    std::size_t used_ = up(directory_bytes);
    unsigned ports_ = 0, vectors_ = 0;
};

}  // namespace nm::ptnet
