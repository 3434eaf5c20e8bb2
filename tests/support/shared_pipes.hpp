// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Pipes between processes, each test with a runtime directory, and so hosts, of its own.

#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "nm/fuse.hpp"
#include "nm/ports/shared_pipe.hpp"
#include "nm/wait.hpp"
#include "support/remove_folder.hpp"

namespace nm::test {

using steady = std::chrono::steady_clock;

/// Words that survive the process that writes them.
template <class T>
class survivor {
public:
    survivor() : at_(new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) T{}) {}
    survivor(const survivor&) = delete;
    survivor& operator=(const survivor&) = delete;
    ~survivor() { ::munmap(at_, sizeof(T)); }
    T* operator->() const noexcept { return at_; }

private:
    T* at_;
};

/// A child process that runs `f` and ends, with status 0 if it returned true.
class process {
public:
    explicit process(const std::function<bool()>& f) : pid_(::fork()) {
        if (pid_ == 0) ::_exit(f() ? 0 : 1);
    }
    process(const process&) = delete;
    process& operator=(const process&) = delete;
    ~process() { kill(); }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    void kill() noexcept {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        (void)wait();
    }
    int wait() noexcept {
        int status = 0;
        if (pid_ > 0) ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return status;
    }

private:
    pid_t pid_;
};

inline std::uint32_t checksum(std::uint64_t number) noexcept { return static_cast<std::uint32_t>((number * 0x9e3779b97f4a7c15ULL) >> 32); }
inline void write_numbered(frame& f, std::uint64_t number) noexcept {
    const auto sum = checksum(number);
    std::memcpy(f.data(), &number, 8);
    for (unsigned i = 0; i < 12; ++i) std::memcpy(f.data() + 8 + 4 * i, &sum, 4);
    f.resize(56);
}
/// False for a frame that is not whole.
inline bool read_numbered(frame& f, std::uint64_t& number) noexcept {
    if (f.size() != 56) return false;
    std::memcpy(&number, f.data(), 8);
    const auto sum = checksum(number);
    for (unsigned i = 0; i < 12; ++i)
        if (std::memcmp(f.data() + 8 + 4 * i, &sum, 4) != 0) return false;
    return true;
}

class shared_pipe_test : public testing::Test {
protected:
    void SetUp() override {
        const auto bin = std::filesystem::read_symlink("/proc/self/exe").parent_path();
        if (!std::filesystem::exists(bin / "nm-host") && ::getenv("NM_LIBEXEC") == nullptr) GTEST_SKIP() << "nm-host has not been built";
        std::string pattern = (std::filesystem::temp_directory_path() / "nm-pipes-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        dir = pattern;
        ::setenv("NM_RUNTIME_DIR", (dir + "/run").c_str(), 1);
    }
    void TearDown() override {
        ::unsetenv("NM_RUNTIME_DIR");
        if (!dir.empty()) remove_folder(dir);
    }

    static open_options sized(unsigned slots, unsigned rings = 1) {
        open_options o;
        o.tx_slots = slots;
        o.tx_rings = rings;
        return o;
    }
    /// The end of somebody who has just been killed: the host may not have noticed yet.
    static result<shared_pipe> reopen(context& ctx, const char* name, const open_options& o = {}) {
        const auto start = steady::now();
        for (;;) {
            auto p = try_open<shared_pipe>(ctx, name, o);
            if (p || p.error().code.value() != EBUSY || steady::now() - start > std::chrono::seconds(2)) return p;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    /// Until `f` says so; false when that takes too long.
    static bool eventually(const std::function<bool()>& f, std::chrono::milliseconds limit = std::chrono::seconds(5)) {
        for (const auto start = steady::now(); steady::now() - start < limit;)
            if (f()) return true;
        return false;
    }

    std::string dir;
};

}  // namespace nm::test
