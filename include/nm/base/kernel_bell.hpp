// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Signals an eventfd that somebody else has, too, without ever waiting. Whether write(2) waits on one that is full is a flag of the
// open file, which he can change; what the kernel itself signals when an asynchronous read has ended waits for nothing. io_submit(2),
// IOCB_FLAG_RESFD. A pipe (pipe_wakes.hpp) costs a quarter of it, but KVM takes interrupts from eventfds only.

#include <array>
#include <cstdint>
#include <ctime>
#include <linux/aio_abi.h>
#include <memory>
#include <sys/syscall.h>

#include "nm/base/os.hpp"

namespace nm::base {

class kernel_bell {
public:
    [[nodiscard]] static result<std::shared_ptr<kernel_bell>> make() {
        std::shared_ptr<kernel_bell> b(new kernel_bell);
        b->nothing_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        if (!b->nothing_ || ::syscall(SYS_io_setup, at_once, &b->queue_) != 0)
            return fail(errno, "cannot make a queue for asynchronous reads: " + errno_text(errno) + " (sysctl fs.aio-max-nr; a container may forbid io_setup)");
        return b;
    }
    kernel_bell(const kernel_bell&) = delete;
    kernel_bell& operator=(const kernel_bell&) = delete;
    ~kernel_bell() {
        if (queue_ != 0) ::syscall(SYS_io_destroy, queue_);
    }

    /// By any thread.
    [[gnu::cold]] void signal(int eventfd) noexcept {
        char end_of_file = 0;
        iocb read{};
        read.aio_fildes = static_cast<std::uint32_t>(nothing_.get());
        read.aio_lio_opcode = IOCB_CMD_PREAD;
        read.aio_buf = reinterpret_cast<std::uintptr_t>(&end_of_file);
        read.aio_nbytes = 1;
        read.aio_flags = IOCB_FLAG_RESFD;
        read.aio_resfd = static_cast<std::uint32_t>(eventfd);
        iocb* one = &read;
        (void)::syscall(SYS_io_submit, queue_, 1L, &one);  // of /dev/null it has ended by now
        std::array<io_event, 8> ended;
        timespec now{};
        (void)::syscall(SYS_io_getevents, queue_, 0L, static_cast<long>(ended.size()), ended.data(), &now);
    }

private:
    static constexpr long at_once = 64;

    kernel_bell() = default;
    unique_fd nothing_;
    aio_context_t queue_ = 0;
};

}  // namespace nm::base
