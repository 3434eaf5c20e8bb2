// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Interrupts as descriptors to sleep on. Each ring has one for each direction: two threads with a ring each do not take each
// other's wake-ups. A device with vectors enough signals them itself. Else it signals one for all, and who takes that signal
// passes it on to the others' (nic_state.hpp).

#include <span>
#include <string>
#include <vector>

#include "nm/ports/nic_device.hpp"
#include "nm/wakes.hpp"

namespace nm {

class nic_wakes {
public:
    /// Which kind of interrupt, and which vector for what; `count(kind)` is how many the device has.
    template <class Count>
    [[nodiscard]] static nic_vectors plan(unsigned rings, Count count) {
        nic_vectors v;
        if (count(sys::irq_kind::msix) > 2 * rings) return {sys::irq_kind::msix, 0, rings, 1, 2 * rings};
        if (count(sys::irq_kind::msix) != 0) v.kind = sys::irq_kind::msix;
        else if (count(sys::irq_kind::msi) != 0) v.kind = sys::irq_kind::msi;
        return v;
    }

    [[nodiscard]] result<void> make(const nic_vectors& v, unsigned rings, const std::string& name) {
        vectors_ = v;
        rings_ = rings;
        for (unsigned i = 0; i < 2 * rings + 1; ++i) {
            auto fd = base::make_eventfd();
            if (!fd) return forward_error(fd);
            owned_.push_back(std::move(*fd));
            raw_.push_back(owned_.back().get());
        }
        for (unsigned i = 0; i < rings; ++i) {
            const int own[] = {raw_[rx(i)], raw_[tx(i)], raw_[common()]};
            auto made = base::make_epoll(name, own);
            if (!made) return forward_error(made);
            each_.push_back(std::move(*made));
        }
        if (rings == 1) return {};
        auto made = base::make_epoll(name, raw_);
        if (!made) return forward_error(made);
        all_ = std::move(*made);
        return {};
    }

    [[nodiscard]] const nic_vectors& vectors() const noexcept { return vectors_; }
    /// For set_irqs: vector i signals the i-th.
    [[nodiscard]] std::span<const int> descriptors() const noexcept {
        return vectors_.shared() && !raw_.empty() ? std::span(raw_).last(1) : std::span(raw_);
    }
    [[nodiscard]] int fd(const ring_view& v) const noexcept {
        const bool one = v.tx_count + v.rx_count == 1 || (v.tx_count == 1 && v.rx_count == 1 && v.tx_first == v.rx_first);
        return one || !all_ ? each_[v.rx_count != 0 ? v.rx_first : v.tx_first].get() : all_.get();
    }
    /// Which wake-up is a ring's; as plan() has the vectors. common(): the link's, or the only vector's.
    [[nodiscard]] static unsigned rx(unsigned ring) noexcept { return ring; }
    [[nodiscard]] unsigned tx(unsigned ring) const noexcept { return rings_ + ring; }
    [[nodiscard]] unsigned common() const noexcept { return 2 * rings_; }
    void signal(unsigned wake) const noexcept { base::eventfd_signal(raw_[wake]); }
    /// Whether it had been signalled.
    bool clear(unsigned wake) const noexcept { return base::eventfd_clear(raw_[wake]); }

private:
    nic_vectors vectors_;
    unsigned rings_ = 0;
    std::vector<base::unique_fd> owned_;
    std::vector<int> raw_;
    std::vector<base::unique_fd> each_;  // of one ring's and the common one
    base::unique_fd all_;
};

}  // namespace nm
