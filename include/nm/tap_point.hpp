// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Where a port and its monitors meet. A port's state has one of these, known to the context under the port's name; it
// outlives the port for as long as somebody watches, to say that the port has gone.

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/port_options.hpp"
#include "nm/taps.hpp"

namespace nm {

/// What a monitor brings along: for each ring of its parent that it watches, an inbox that is open for `id`, and the
/// descriptor to wake when the parent has gone.
struct watcher {
    static constexpr std::uint32_t id = 1;
    index_t first = 0;  ///< of the parent's rings
    std::vector<inbox*> boxes;
    std::vector<int> wakes;
    bool tx = false, rx = false, swap = false;
    std::atomic<bool> lost{false};  ///< the parent has been closed
};

class tap_point {
public:
    tap_point(std::vector<ring_base*> tx, std::vector<ring_base*> rx, port_info info, region_ptr memory)
        : info_(std::move(info)), memory_(std::move(memory)), tx_(std::move(tx)), rx_(std::move(rx)), tx_taps_(tx_.size()),
          rx_taps_(rx_.size()) {}

    /// A handle of the port was opened, or closed. Monitors are of one opening: with the last handle they are lost.
    void opened() noexcept {
        const std::lock_guard guard(mutex_);
        ++handles_;
    }
    void closed() noexcept {
        const std::lock_guard guard(mutex_);
        if (--handles_ == 0) lose_all();
    }
    /// The rings are about to go.
    void gone() noexcept {
        const std::lock_guard guard(mutex_);
        handles_ = 0;
        lose_all();
    }
    [[nodiscard]] bool open() noexcept {
        const std::lock_guard guard(mutex_);
        return handles_ != 0;
    }

    [[nodiscard]] const port_info& info() const noexcept { return info_; }
    [[nodiscard]] const region_ptr& memory() const noexcept { return memory_; }
    [[nodiscard]] index_t tx_rings() const noexcept { return static_cast<index_t>(tx_.size()); }
    [[nodiscard]] index_t rx_rings() const noexcept { return static_cast<index_t>(rx_.size()); }

    /// False when the port has been closed meanwhile.
    [[nodiscard]] bool attach(watcher& w) {
        const std::lock_guard guard(mutex_);
        if (handles_ == 0) return false;
        watchers_.push_back(&w);
        for (std::size_t i = 0; i < w.boxes.size(); ++i) {
            if (w.tx) add(tx_, tx_taps_, w.first + i, {w.boxes[i], w.id, ns_txmon, w.swap}, true);
            if (w.rx) add(rx_, rx_taps_, w.first + i, {w.boxes[i], w.id, 0, w.swap}, false);
        }
        return true;
    }
    /// Afterwards nobody writes to the watcher's rings.
    void detach(watcher& w) noexcept {
        const std::lock_guard guard(mutex_);
        if (std::erase(watchers_, &w) != 0) remove(w);
    }

private:
    using tap_list = std::vector<std::unique_ptr<ring_taps>>;

    static void add(std::vector<ring_base*>& rings, tap_list& taps, std::size_t i, const tap& t, bool sends) {
        if (i >= rings.size()) return;  // the direction that has fewer rings
        if (!taps[i]) taps[i] = std::make_unique<ring_taps>(sends);
        taps[i]->add(t, rings[i]->num_slots());
        rings[i]->set_taps(taps[i].get());
    }
    void remove(const watcher& w) noexcept {
        for (auto* side : {&tx_taps_, &rx_taps_})
            for (const auto& taps : *side)
                for (const auto* box : w.boxes)
                    if (taps) taps->remove(box);
    }
    void lose_all() noexcept {
        for (watcher* w : watchers_) {
            remove(*w);
            w->lost.store(true, std::memory_order_release);  // P1
            for (const int fd : w->wakes) base::eventfd_signal(fd);
        }
        watchers_.clear();
    }

    const port_info info_;
    const region_ptr memory_;
    std::mutex mutex_;
    unsigned handles_ = 0;
    std::vector<ring_base*> tx_, rx_;
    tap_list tx_taps_, rx_taps_;
    std::vector<watcher*> watchers_;
};

/// A port state's own end: nothing as long as the port has not said that it can be watched.
class tap_owner {
public:
    tap_owner() = default;
    tap_owner(const tap_owner&) = delete;
    tap_owner& operator=(const tap_owner&) = delete;
    ~tap_owner() {
        if (point_) point_->gone();
    }
    void set(std::shared_ptr<tap_point> p) noexcept { point_ = std::move(p); }
    explicit operator bool() const noexcept { return point_ != nullptr; }
    void opened() noexcept {
        if (point_) point_->opened();
    }
    void closed() noexcept {
        if (point_) point_->closed();
    }

private:
    std::shared_ptr<tap_point> point_;
};

}  // namespace nm
