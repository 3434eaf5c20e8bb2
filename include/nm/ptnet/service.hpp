// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nm/base/kernel_bell.hpp"
#include "nm/base/os.hpp"
#include "nm/counters.hpp"
#include "nm/port_options.hpp"

namespace nm::ptnet {

/// What it cost to tell the other side.
struct service_stats {
    counters tx, rx;              ///< as the port counts them: tx is what the guest sent
    std::uint64_t kicks = 0;      ///< the guest woke the host
    std::uint64_t wakes = 0;      ///< the host woke the guest
    std::uint64_t bad_indexes = 0;  ///< times that a head or cur made no sense
    bool running = false;         ///< a guest uses it
};

/// One port that is served across a boundary, whatever its kind. Whoever visits it does so from one thread at a time
/// (sync_loop.hpp); stats() may be asked for by any.
class service {
public:
    service(const service&) = delete;
    service& operator=(const service&) = delete;
    virtual ~service() = default;

    [[nodiscard]] virtual const port_info& info() const noexcept = 0;
    [[nodiscard]] const std::string& name() const noexcept { return info().name; }

    /// Vector 0 is for control, then there is one for each tx ring, then for each rx ring.
    [[nodiscard]] unsigned vectors() const noexcept { return static_cast<unsigned>(kicks_.size()); }
    [[nodiscard]] unsigned first_vector() const noexcept { return first_vector_; }
    /// The guest signals it to wake the host, and the host signals the other one. Owned by the service.
    [[nodiscard]] int kick_fd(unsigned vector) const noexcept { return kicks_[vector].get(); }
    [[nodiscard]] int irq_fd(unsigned vector) const noexcept { return irqs_[vector].get(); }
    /// Where the guest is another process: the host signals these instead, which no flag of the guest's can make it wait for
    /// (base/pipe_wakes.hpp). Before it is visited.
    void wake_by(std::vector<base::unique_fd> own) noexcept { irqs_ = std::move(own); }
    /// Likewise, where the guest needs eventfds.
    void wake_by(std::shared_ptr<base::kernel_bell> bell) noexcept { bell_ = std::move(bell); }
    /// What becomes readable when the port itself has something.
    [[nodiscard]] virtual int port_fd() const noexcept = 0;

    /// Takes what the guest handed over and hands over what has come: one pass over all rings, at most a ring's slots each. True if
    /// there was anything to do.
    virtual bool visit() noexcept = 0;
    /// From here on whoever has work for it signals a descriptor. False: there is some already.
    [[nodiscard]] virtual bool arm() noexcept = 0;
    virtual void disarm() noexcept = 0;
    /// Whether port_fd() is to wake whoever sleeps. Not of a port that nobody uses, or that is lost: what it says would stay said.
    [[nodiscard]] virtual bool minds_port() const noexcept = 0;
    [[nodiscard]] virtual service_stats stats() noexcept = 0;
    /// Why the port can do no more, if so.
    [[nodiscard]] virtual result<void> status() = 0;
    /// The guest has gone without a word: nothing is taken from it until another one begins.
    virtual void stop() noexcept = 0;
    /// The port itself can do no more: the guest is told.
    virtual void lose() noexcept = 0;

protected:
    service() = default;
    [[nodiscard]] result<void> make_vectors(unsigned n, unsigned first) {
        first_vector_ = first;
        for (unsigned i = 0; i < n; ++i) {
            auto kick = base::make_eventfd();
            auto irq = base::make_eventfd();
            if (!kick) return forward_error(kick);
            if (!irq) return forward_error(irq);
            kicks_.push_back(std::move(*kick));
            irqs_.push_back(std::move(*irq));
        }
        return {};
    }
    [[gnu::cold]] void wake(unsigned vector) noexcept {
        if (bell_) bell_->signal(irq_fd(vector));
        else base::eventfd_signal(irq_fd(vector));
        ++wakes_out_;
    }
    // Nobody reads these descriptors, so that their counts are the sums; a read would take a wake-up from the loop.
    [[nodiscard]] std::uint64_t kicks() const {
        std::uint64_t sum = 0;
        for (const auto& k : kicks_) sum += base::eventfd_count(k.get());
        return sum;
    }
    counter wakes_out_;

private:
    std::vector<base::unique_fd> kicks_, irqs_;
    std::shared_ptr<base::kernel_bell> bell_;
    unsigned first_vector_ = 0;
};

}  // namespace nm::ptnet
