// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// All of the operating system that pipes and switches need: descriptors, mappings, memfd, eventfd, epoll, membarrier.
// Nothing here is on a packet's road.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <span>
#include <string>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utility>

#include "nm/result.hpp"

namespace nm::base {

/// Owns one file descriptor. Everything nm leaves in the kernel hangs on one of these, so that a kill -9 leaves nothing.
class unique_fd {
public:
    unique_fd() noexcept = default;
    explicit unique_fd(int fd) noexcept : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    unique_fd(const unique_fd&) = delete;
    unique_fd& operator=(const unique_fd&) = delete;
    ~unique_fd() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd = -1) noexcept {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

/// Owns one mmap.
class mapping {
public:
    mapping() noexcept = default;
    mapping(void* data, std::size_t size) noexcept : data_(data), size_(size) {}
    mapping(mapping&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    mapping& operator=(mapping&& other) noexcept {
        if (this != &other) {
            reset();
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    mapping(const mapping&) = delete;
    mapping& operator=(const mapping&) = delete;
    ~mapping() { reset(); }

    [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(data_); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    explicit operator bool() const noexcept { return data_ != nullptr; }
    void reset() noexcept {
        if (data_ != nullptr) ::munmap(data_, size_);
        data_ = nullptr;
        size_ = 0;
    }

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

[[nodiscard]] inline std::string errno_text(int error_number) {
    return std::error_code(error_number, std::generic_category()).message();
}

/// `flags` are mmap's (MAP_SHARED, MAP_HUGETLB ...); `fd` may be -1 for anonymous memory.
[[nodiscard]] inline result<mapping> map(std::size_t size, int flags, int fd = -1, off_t offset = 0) {
    void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (p == MAP_FAILED)
        return fail(errno, "cannot map " + std::to_string(size) + " bytes of memory: " + errno_text(errno));
    return mapping(p, size);
}

/// Anonymous memory of which the part from `offset` on may lie in huge pages, as far as it fills them: a core then looks up
/// one address translation for many buffers, not one for each two. Nothing needs to be reserved for it (madvise(2),
/// MADV_HUGEPAGE), and where the system has none to give, pages are small. `offset` is a multiple of the page size.
[[nodiscard]] inline result<mapping> map_huge_from(std::size_t size, std::size_t offset) {
    constexpr std::size_t huge = std::size_t{2} << 20;
    if (size < offset + huge) return map(size, MAP_PRIVATE | MAP_ANONYMOUS);
    void* p = ::mmap(nullptr, size + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return map(size, MAP_PRIVATE | MAP_ANONYMOUS);
    auto* const all = static_cast<std::byte*>(p);
    const std::size_t skip = (huge - (reinterpret_cast<std::uintptr_t>(all) + offset) % huge) % huge;
    constexpr std::size_t page = 4096;
    const std::size_t end = (skip + size + page - 1) / page * page;
    if (skip != 0) ::munmap(all, skip);
    ::munmap(all + end, size + huge - end);
    (void)::madvise(all + skip + offset, (size - offset) / huge * huge, MADV_HUGEPAGE);
    return mapping(all + skip, size);
}

[[nodiscard]] inline bool interface_exists(const char* name) noexcept { return ::if_nametoindex(name) != 0; }

[[nodiscard]] inline result<unique_fd> make_eventfd() {
    unique_fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return fail(errno, "cannot make an eventfd: " + errno_text(errno) + " (raise `ulimit -n`?)");
    return fd;
}

/// Memory that can be handed to another process, and that nobody can make smaller or larger (rule R5).
[[nodiscard]] inline result<unique_fd> make_memfd(const char* name, std::size_t size) {
    unique_fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0 ||
        ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return fail(errno, "cannot make a memfd of " + std::to_string(size) + " bytes: " + errno_text(errno));
    return fd;
}

/// Whether memory that somebody else made can be mapped without fear: EPERM unless it is ordinary memory (a page of it can always be
/// had; huge pages can run out, and kill who touches one) that is sealed against shrinking, EINVAL if it has not `size` bytes.
[[nodiscard]] inline result<void> check_sealed(int fd, std::uint64_t size) {
    constexpr auto tmpfs = 0x01021994;  // TMPFS_MAGIC, which memfd_create(2) has its memory from
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return fail(EPERM, "the memory that was handed over is not sealed against shrinking");
    struct statfs fs {};
    if (::fstatfs(fd, &fs) != 0 || fs.f_type != tmpfs) return fail(EPERM, "the memory that was handed over is not ordinary memory");
    struct stat st {};
    if (::fstat(fd, &st) != 0 || st.st_size < 0 || static_cast<std::uint64_t>(st.st_size) < size || size == 0)
        return fail(EINVAL, "the memory that was handed over has " + std::to_string(st.st_size) + " bytes, not " + std::to_string(size));
    return {};
}

/// Maps the first `size` bytes of memory that somebody else made.
[[nodiscard]] inline result<mapping> map_sealed(int fd, std::size_t size) {
    if (auto ok = check_sealed(fd, size); !ok) return forward_error(ok);
    return map(size, MAP_SHARED, fd);
}

/// `front` bytes of this process's own memory, right behind them `size` bytes of what somebody else made, from `offset` on, and behind
/// these own memory again: who walks past the last buffer by what a slot can say (64 KiB) reads nonsense, and lives. Multiples of 4096.
[[nodiscard]] inline result<mapping> map_sealed_behind(std::size_t front, int fd, std::size_t offset, std::size_t size) {
    constexpr std::size_t beyond = 65536;
    if (auto ok = check_sealed(fd, std::uint64_t{offset} + size); !ok) return forward_error(ok);
    auto all = map(front + size + beyond, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (!all) return all;
    if (::mmap(all->data() + front, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(offset)) == MAP_FAILED)
        return fail(errno, "cannot map the memory that was handed over: " + errno_text(errno));
    return all;
}

/// A saturated eventfd answers EAGAIN, and is readable, which is all that a wake-up wants.
inline void eventfd_signal(int fd) noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(fd, &one, sizeof one);
}

/// Whether there was a signal. A pipe that stands in for an eventfd (base/pipe_wakes.hpp) has a word for each: they are all taken.
inline bool eventfd_clear(int fd) noexcept {
    std::uint64_t count[64];
    return ::read(fd, count, sizeof count) > 0;
}

/// What is in an eventfd, without taking it (proc(5), fdinfo); 0 where that cannot be had.
[[nodiscard]] inline std::uint64_t eventfd_count(int fd) {
    const unique_fd info(::open(("/proc/self/fdinfo/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC));
    char text[512] = {};
    if (!info || ::read(info.get(), text, sizeof text - 1) <= 0) return 0;
    const char* at = std::strstr(text, "eventfd-count:");
    return at == nullptr ? 0 : std::strtoull(at + 14, nullptr, 16);
}

/// From now on `epoll` is readable when `fd` is. False: errno says why.
[[nodiscard]] inline bool epoll_add(int epoll, int fd, std::uint32_t events = EPOLLIN) noexcept {
    epoll_event e{};
    e.events = events;
    return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

/// A descriptor that is readable when one of these is; for the port of that name, which is slept on by it.
[[nodiscard]] inline result<unique_fd> make_epoll(const std::string& name, std::span<const int> fds) {
    unique_fd all(::epoll_create1(EPOLL_CLOEXEC));
    bool ok = static_cast<bool>(all);
    for (const int fd : fds) ok = ok && epoll_add(all.get(), fd);
    if (!ok) return fail(errno, name + ": cannot make a descriptor to wait on: " + errno_text(errno));
    return all;
}

/// The slow half of an asymmetric barrier: after it returns, every other running thread of this process has passed a
/// full barrier. Who is about to sleep pays, so that who publishes does not (docs/memory-order.md, W). Returns false
/// where the kernel cannot do it; then both halves must use a real fence.
[[nodiscard]] inline bool membarrier_heavy() noexcept {
    return ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

/// Once per process before membarrier_heavy (repeating it is harmless).
[[nodiscard]] inline bool membarrier_register() noexcept {
    return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

}  // namespace nm::base
