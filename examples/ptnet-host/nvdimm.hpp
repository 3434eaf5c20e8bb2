// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Memory that a guest gets as an nvdimm: every host lets it be cached there, while what a PCI device's BAR is depends on the processor
// (docs/ptnet.md). In front of it is what makes the guest's kernel show it as /dev/daxN.0 by itself: a namespace's information block,
// which `ndctl create-namespace -m devdax -M mem` would write. Source: Linux, drivers/nvdimm/pfn.h and pfn_devs.c.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <unistd.h>

#include "common/failure.hpp"

#include "nm/base/os.hpp"
#include "nm/ptnet/host_memory.hpp"
#include "nm/sys/ptnet_device.hpp"

namespace ptnet_host {

/// What lies in front of the memory: an nvdimm is mapped in pages of 2 MiB.
inline constexpr std::size_t nvdimm_lead_in = std::size_t{2} << 20;

struct nvdimm_block {
    char signature[16];
    std::uint8_t uuid[16], parent_uuid[16];
    std::uint32_t flags;
    std::uint16_t version_major, version_minor;
    std::uint64_t data_offset, pages;
    std::uint32_t mode, start_pad, end_trunc, align, page_size;
    std::uint16_t page_struct_size;
    std::uint8_t padding[3994];
    std::uint64_t checksum;
};
static_assert(sizeof(nvdimm_block) == 4096 && offsetof(nvdimm_block, checksum) == 4088);

/// Makes a memory that was created with nvdimm_lead_in such an nvdimm.
inline nm::result<void> label_nvdimm(const nm::ptnet::host_memory& m) {
    auto map = nm::base::map(nvdimm_lead_in, MAP_SHARED, m.fd());
    if (!map) return nm::forward_error(map);
    nvdimm_block b{};
    std::memcpy(b.signature, "NVDIMM_DAX_INFO", 16);
    const auto identity = m.directory().identity;
    std::memcpy(b.uuid, "nm-ptnet", 8);
    std::memcpy(b.uuid + 8, &identity, 8);
    b.version_major = 1;
    b.version_minor = 4;
    b.data_offset = nvdimm_lead_in;
    b.pages = m.size() / 4096;
    b.mode = 1;  // what the kernel knows of the pages is kept in its own memory
    b.align = static_cast<std::uint32_t>(nvdimm_lead_in);
    b.page_size = 4096;
    b.page_struct_size = 64;
    // Fletcher's, of 32-bit words.
    std::uint32_t low = 0;
    std::uint64_t high = 0;
    for (std::size_t i = 0; i < sizeof b; i += 4) {
        std::uint32_t word = 0;
        std::memcpy(&word, reinterpret_cast<const std::byte*>(&b) + i, 4);
        low += word;
        high += low;
    }
    b.checksum = high << 32U | low;
    std::memcpy(map->data() + 4096, &b, sizeof b);
    return {};
}

/// What the device's own BAR then has: where to look.
inline nm::result<nm::base::unique_fd> signpost_to(const nm::ptnet::host_memory& m) {
    auto fd = nm::base::make_memfd("nm-ptnet-signpost", 4096);
    if (!fd) return fd;
    const std::uint64_t words[] = {nm::sys::ptnet_elsewhere, m.directory().identity};
    if (::pwrite(fd->get(), words, sizeof words, 0) != sizeof words) return nm::fail(EIO, "cannot write to a memfd");
    return fd;
}

/// A name by which QEMU finds the memory while this program lives. One that was left behind leads nowhere, and is replaced.
class memory_link {
public:
    memory_link() = default;
    memory_link(std::string path, int fd) : path_(std::move(path)) {
        std::error_code ignored;
        if (std::filesystem::is_symlink(path_, ignored)) std::filesystem::remove(path_, ignored);
        std::error_code why;
        std::filesystem::create_symlink("/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd), path_, why);
        if (why) throw tool::run_error("cannot make the link " + std::exchange(path_, {}) + ": " + why.message());
    }
    memory_link(const memory_link&) = delete;
    memory_link& operator=(const memory_link&) = delete;
    ~memory_link() {
        std::error_code ignored;
        if (!path_.empty()) std::filesystem::remove(path_, ignored);
    }

private:
    std::string path_;
};

}  // namespace ptnet_host
