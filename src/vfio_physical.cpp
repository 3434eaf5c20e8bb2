// SPDX-License-Identifier: BSD-2-Clause

// Where memory really lies. Source: the kernel's Documentation/admin-guide/mm/pagemap.rst and proc(5), smaps.

#include <array>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include "vfio_space.hpp"

namespace nm::sys {
namespace {

/// All of [from, to) is writable and lies in hugepages.
bool in_hugepages(std::uintptr_t from, std::uintptr_t to) {
    std::ifstream file("/proc/self/smaps");
    std::string line;
    std::uintptr_t first = 0, end = 0, good = from;  // all before `good` is
    bool writable = false;
    while (good < to && std::getline(file, line)) {
        std::array<char, 5> mode{};
        unsigned long a = 0, b = 0, kib = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &a, &b, mode.data()) == 3) {
            first = a, end = b, writable = mode[1] == 'w';
        } else if (std::sscanf(line.c_str(), "KernelPageSize: %lu", &kib) == 1) {
            if (kib * 1024 > 4096 && writable && first <= good && good < end) good = end;
        }
    }
    return good >= to;
}

}  // namespace

result<std::uint64_t> physical_address(const void* memory, std::size_t size) {
    constexpr std::size_t page = 4096;
    constexpr std::uint64_t present = std::uint64_t{1} << 63, frame = (std::uint64_t{1} << 55) - 1;
    const auto from = reinterpret_cast<std::uintptr_t>(memory);
    const std::string how = "; without an IOMMU, memory must be hugepages that follow each other, such as one page of 1 GiB "
                            "(boot with hugepagesz=1G hugepages=1)";
    if (!in_hugepages(from, from + size))
        return fail(EINVAL, "this memory is not in hugepages, and the kernel may move it under the device" + how);
    const base::unique_fd fd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!fd) return fail(errno, "cannot open /proc/self/pagemap: " + base::errno_text(errno));
    std::uint64_t start = 0;
    for (std::size_t at = 0; at < size; at += page) {
        // Written to, but not changed: from now on it is there, and its own.
        (void)__atomic_fetch_or(reinterpret_cast<unsigned char*>(from + at), 0, __ATOMIC_RELAXED);
        std::uint64_t entry = 0;
        const auto n = ::pread(fd.get(), &entry, sizeof entry, static_cast<off_t>((from + at) / page * sizeof entry));
        if (n != sizeof entry || (entry & present) == 0)
            return fail(EIO, "the kernel does not say where this memory is (/proc/self/pagemap)");
        if ((entry & frame) == 0)
            return fail(EPERM, "the kernel does not tell this user where memory is (/proc/self/pagemap): it takes root");
        const auto here = (entry & frame) * page;
        if (at == 0) start = here;
        if (here != start + at)
            return fail(EINVAL, "the hugepages of this memory do not follow each other from byte " + std::to_string(at) + " on" + how);
    }
    return start;
}

}  // namespace nm::sys
