// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "nm/base/os.hpp"
#include "nm/pool.hpp"
#include "nm/slot.hpp"

namespace nm {

/// Where a region's memory comes from. memfd memory can be handed to another process; hugepages save TLB misses and
/// are what zero-copy drivers want; `best` is hugepages when the system has enough of them, else heap.
enum class backing { heap, memfd, hugepages, best };

/// 33 cache lines. 2048 would map every buffer to the same cache sets: 2.2 to 2.5 times slower near (docs/bench.md).
inline constexpr std::uint32_t preferred_stride = 2112;

/// What a backend asks of the memory it is given; a region satisfies it or open refuses, with a sentence.
struct memory_constraints {
    std::uint32_t min_buf_size = 64;
    std::uint32_t alignment = 64;          ///< of each buffer, a power of two
    std::uint32_t no_cross = 0;            ///< no buffer may cross a multiple of this, a power of two (0: may)

    /// The size of buffers nearest to `wanted` that satisfies them.
    [[nodiscard]] std::uint32_t suited(std::uint32_t wanted) const noexcept {
        const std::uint32_t least = std::max(wanted, min_buf_size);
        if (no_cross == 0) return (least + alignment - 1) / alignment * alignment;
        return std::min(std::max({std::bit_floor(least), std::bit_ceil(min_buf_size), alignment}), no_cross);
    }
};

struct region_options {
    std::uint32_t bufs = 4096;                   ///< including the two reserved ones
    std::uint32_t buf_size = preferred_stride;   ///< 64 to 65536, a multiple of 64
    std::size_t meta_bytes = std::size_t{1} << 18;  ///< for interfaces and rings
    backing where = backing::heap;
};

/// One piece of memory with interfaces, rings and buffers. Ports that share one are a trust group: between them frames
/// are forwarded by swapping buffers.
class region {
public:
    [[nodiscard]] static result<std::shared_ptr<region>> create(const region_options& o) {
        if (o.buf_size < 64 || o.buf_size > 65536 || o.buf_size % 64 != 0)
            return fail(EINVAL, "buffers of " + std::to_string(o.buf_size) +
                                    " bytes: the size must be a multiple of 64 from 64 to 65536");
        if (o.bufs < 4 || o.bufs > max_bufs)
            return fail(EINVAL, std::to_string(o.bufs) + " buffers: a region has 4 to " + std::to_string(max_bufs));
        constexpr std::size_t page = 4096;
        const std::size_t meta = (o.meta_bytes + page - 1) / page * page;
        std::size_t size = meta + static_cast<std::size_t>(o.bufs) * o.buf_size;
        size = (size + page - 1) / page * page;
        auto memory = get_memory(size, meta, o.where);
        if (!memory) return forward_error(memory);
        return std::shared_ptr<region>(new region(std::move(*memory), o, meta));
    }

    /// A part of memory that somebody else keeps: [base, base + size), which `keep` keeps. Offsets and counts as create() would have
    /// chosen them, or as they were read from there: EINVAL for what does not fit. Interfaces and rings of a region that another
    /// process made are his; `owned` is false then, and there is nothing to take from the pools.
    [[nodiscard]] static result<std::shared_ptr<region>> within(std::shared_ptr<void> keep, std::byte* base, std::size_t size,
                                                                std::size_t bufs_offset, std::uint32_t bufs, std::uint32_t buf_size, bool owned) {
        constexpr std::size_t page = 4096;
        if (buf_size < 64 || buf_size > 65536 || buf_size % 64 != 0 || bufs < 4 || bufs > max_bufs || bufs_offset > size ||
            bufs_offset % page != 0 || bufs > (size - bufs_offset) / buf_size)
            return fail(EINVAL, "memory of " + std::to_string(size) + " bytes does not hold " + std::to_string(bufs) + " buffers of " +
                                    std::to_string(buf_size) + " bytes at offset " + std::to_string(bufs_offset));
        region_options o;
        o.bufs = bufs;
        o.buf_size = buf_size;
        auto r = std::shared_ptr<region>(new region({}, o, owned ? bufs_offset : 0));
        r->keep_ = std::move(keep);
        r->base_ = base;
        r->size_ = size;
        r->bufs_offset_ = bufs_offset;
        if (!owned) r->bufs_.take_all();
        return r;
    }

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] bool huge() const noexcept { return huge_; }
    [[nodiscard]] std::uint32_t num_bufs() const noexcept { return bufs_.capacity(); }
    [[nodiscard]] std::uint32_t buf_size() const noexcept { return buf_size_; }
    /// Bytes from base() to buffer 0; a multiple of the page size.
    [[nodiscard]] std::size_t bufs_offset() const noexcept { return bufs_offset_; }
    [[nodiscard]] std::byte* buf(std::uint32_t idx) const noexcept {
        return base() + bufs_offset_ + static_cast<std::size_t>(idx) * buf_size_;
    }

    /// Held while the pools are used: ports of one region may be opened and closed by several threads.
    [[nodiscard]] std::mutex& pools() noexcept { return pools_; }
    [[nodiscard]] buffer_pool& bufs() noexcept { return bufs_; }
    [[nodiscard]] object_pool& objects() noexcept { return objects_; }

    [[nodiscard]] bool satisfies(const memory_constraints& c) const noexcept {
        if (buf_size_ < c.min_buf_size || buf_size_ % c.alignment != 0) return false;
        return c.no_cross == 0 || (c.no_cross % buf_size_ == 0 && bufs_offset_ % c.no_cross == 0);
    }

    static constexpr std::uint32_t max_bufs = 4'000'000;

private:
    struct raw_memory {
        base::mapping map;
        base::unique_fd fd;
        bool huge = false;
    };

    region(raw_memory m, const region_options& o, std::size_t meta)
        : memory_(std::move(m.map)), base_(memory_.data()), size_(memory_.size()), fd_(std::move(m.fd)), huge_(m.huge),
          buf_size_(o.buf_size), bufs_offset_(meta), bufs_(o.bufs), objects_(meta) {}

    static result<raw_memory> get_memory(std::size_t size, std::size_t meta, backing where) {
        raw_memory m;
        if (where == backing::hugepages || where == backing::best) {
            constexpr std::size_t huge_page = std::size_t{2} << 20;
            auto map = base::map((size + huge_page - 1) / huge_page * huge_page,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE);
            if (map) {
                m.map = std::move(*map);
                m.huge = true;
                return m;
            }
            if (where == backing::hugepages)
                return fail(ENOMEM, "no hugepages for " + std::to_string(size) + " bytes; reserve some: sysctl -w "
                                    "vm.nr_hugepages=" + std::to_string(size / huge_page + 1));
        }
        if (where == backing::memfd) {
            auto fd = base::make_memfd("nm-region", size);
            if (!fd) return forward_error(fd);
            m.fd = std::move(*fd);
        }
        auto map = m.fd ? base::map(size, MAP_SHARED, m.fd.get()) : base::map_huge_from(size, meta);
        if (!map) return forward_error(map);
        m.map = std::move(*map);
        return m;
    }

    base::mapping memory_;
    std::shared_ptr<void> keep_;
    std::byte* base_;
    std::size_t size_;
    base::unique_fd fd_;
    bool huge_;
    std::uint32_t buf_size_;
    std::size_t bufs_offset_;
    std::mutex pools_;
    buffer_pool bufs_;
    object_pool objects_;
};

using region_ptr = std::shared_ptr<region>;

}  // namespace nm
