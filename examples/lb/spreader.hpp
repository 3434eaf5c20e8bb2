// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What is done for each frame: to which pipe of each group it goes, and what becomes of it when that is full.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "../common/frame_slots.hpp"
#include "overflow.hpp"

#include "nm/fuse.hpp"
#include "nm/vale/connection.hpp"

namespace lb {

/// What has become of frames, in numbers that add up: what was given to a pipe, dropped on its account, or waits for it.
struct flow_count {
    std::uint64_t forwarded = 0, forwarded_bytes = 0, dropped = 0, dropped_bytes = 0, queued = 0;
};

/// A flow_count that the working thread writes and others look at.
class shown_count {
public:
    void show(const flow_count& c) noexcept {
        const std::array<std::uint64_t, 5> now{c.forwarded, c.forwarded_bytes, c.dropped, c.dropped_bytes, c.queued};
        for (std::size_t i = 0; i < now.size(); ++i) v_[i].store(now[i], std::memory_order_relaxed);
    }
    [[nodiscard]] flow_count look() const noexcept {
        const auto v = [this](std::size_t i) { return v_[i].load(std::memory_order_relaxed); };
        return {v(0), v(1), v(2), v(3), v(4)};
    }

private:
    std::array<std::atomic<std::uint64_t>, 5> v_{};
};

/// The end of a pipe whose other end is a consumer's.
template <class Pipe>
struct outlet {
    outlet(std::string n, Pipe p) : name(std::move(n)), port(std::move(p)) {}

    std::string name;
    Pipe port;
    std::uint64_t refused = 0, refused_bytes = 0;  ///< dropped at once: nowhere to wait
    bool asked = false;                            ///< in this round: is there room by now?
    bool filled = false;                           ///< and nobody has been told yet
    shown_count shown;
};

/// Pipes that share all frames among them.
struct group {
    std::string prefix;
    std::size_t first, count;
};

/// Takes frames from rings and gives each to one pipe of every group. The last group gets the frame itself, by a swap of buffers
/// where ring and pipe are in one memory; those before it get copies, since what a consumer does with its frame, and
/// when, is nobody else's business. What finds its pipe full waits in the overflow, behind what waits there already.
template <class Pipe>
class spreader {
public:
    /// `store`: where the overflow's buffers are.
    spreader(std::deque<outlet<Pipe>>& outlets, std::vector<group> groups, nm::vale::connection_reader reader, overflow waiting,
             const nm::buffer_space& store)
        : outlets_(outlets), groups_(std::move(groups)), reader_(std::move(reader)), waiting_(std::move(waiting)), store_(store) {}

    void begin_round() noexcept {
        for (auto& o : outlets_) o.asked = false;
    }

    /// Up to `max` frames off a ring that has been synced. `broken`: the ring is in a frame that is too long to be one.
    nm::index_t take(nm::ring_base& rx, bool& broken, nm::index_t max) noexcept {
        nm::index_t frames = 0, done = 0;
        // Who shares the memory can write there that the ring never ends.
        while (frames < max && done < rx.num_slots() && !rx.empty()) {
            const nm::index_t n = broken ? 0 : tool::frame_slots(rx);
            done += std::max(n, nm::index_t{1});
            if (n == 0 || n > nm::max_frags) {
                if (!broken && n == 0 && rx.space() <= nm::max_frags && rx.space() != rx.num_slots() - 1) break;  // its end will come
                frames += skip(rx, broken);
                continue;
            }
            if (n == 1 && nm::load_slot(rx.slot()).len == 0) {
                rx.advance();
                continue;
            }
            spread(rx, n);
            ++frames;
        }
        return frames;
    }

    /// What waits goes on as far as there is room. Returns frames.
    nm::index_t serve_waiting() noexcept {
        nm::index_t frames = 0;
        for (std::size_t q = 0; q < outlets_.size(); ++q) {
            auto& o = outlets_[q];
            for (; !waiting_.empty(q) && has_room(o, waiting_.front_pieces(q)); ++frames)
                for (bool more = true; more;) more = send_waiting(o, q);
        }
        return frames;
    }

    void end_round() noexcept {
        for (std::size_t q = 0; q < outlets_.size(); ++q) {
            auto& o = outlets_[q];
            if (std::exchange(o.filled, false)) (void)o.port.tx(0).txsync();
            o.shown.show(count(q));
        }
    }

    [[nodiscard]] flow_count count(std::size_t q) noexcept {
        auto& o = outlets_[q];
        const nm::counters tx = o.port.tx(0).stats();
        const auto& lost = waiting_.lost(q);
        // What is in the ring and was not synced yet has not been counted by it.
        return {tx.frames - tx.dropped(), tx.bytes, o.refused + lost.frames + tx.dropped(), o.refused_bytes + lost.bytes, waiting_.frames(q)};
    }

    [[nodiscard]] bool waits(std::size_t q) const noexcept { return !waiting_.empty(q); }
    [[nodiscard]] std::uint64_t received() const noexcept { return received_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    /// Of which so many were no whole frames, and went nowhere.
    [[nodiscard]] std::uint64_t broken() const noexcept { return broken_; }
    [[nodiscard]] const std::array<std::uint64_t, nm::vale::told_bys>& told() const noexcept { return told_; }
    [[nodiscard]] const overflow& waiting() const noexcept { return waiting_; }
    [[nodiscard]] const std::vector<group>& groups() const noexcept { return groups_; }

private:
    // A part of a frame that is none; its last slot is what the ring has counted.
    nm::index_t skip(nm::ring_base& rx, bool& broken) noexcept {
        broken = (nm::load_slot(rx.slot()).flags & nm::ns_morefrag) != 0;
        rx.advance();
        if (broken) return 0;
        ++received_;
        ++broken_;
        return 1;
    }

    void spread(nm::ring_base& rx, nm::index_t n) noexcept {
        const nm::index_t head = rx.head();
        nm::prefetch_read(rx.buffers().hint(nm::load_once(rx.slot(rx.next(head)).buf_idx)));
        const nm::slot s = nm::load_slot(rx.slot(head));
        const auto c = reader_(rx.buf(s), std::min<std::size_t>(s.len, rx.buf_size()));
        ++received_;
        ++told_[static_cast<std::size_t>(c.by)];
        bytes_ += length(rx, n);
        for (std::size_t g = 0; g < groups_.size(); ++g) {
            const std::size_t q = groups_[g].first + static_cast<std::size_t>(c.hash % groups_[g].count);
            give(outlets_[q], q, rx, n, g + 1 == groups_.size());
        }
        rx.advance(n);
    }

    void give(outlet<Pipe>& o, std::size_t q, nm::ring_base& rx, nm::index_t n, bool last) noexcept {
        nm::ring_base& tx = o.port.tx(0);
        const bool fits = n < tx.num_slots() && (rx.buf_size() <= tx.buf_size() || longest(rx, n) <= tx.buf_size());
        if (fits && waiting_.empty(q) && has_room(o, n)) {
            nm::index_t i = rx.head();
            for (nm::index_t k = 1; k <= n; ++k, i = rx.next(i)) send(o, rx, i, k != n, last);
        } else if (fits && (rx.buf_size() <= store_.size || longest(rx, n) <= store_.size) && waiting_.make_room(n)) {
            nm::index_t i = rx.head();
            for (nm::index_t k = 1; k <= n; ++k, i = rx.next(i)) keep(q, rx, i, k != n, last);
        } else {
            ++o.refused;
            o.refused_bytes += length(rx, n);
        }
    }

    // Asks the other side at most once a round.
    [[nodiscard]] static bool has_room(outlet<Pipe>& o, nm::index_t n) noexcept {
        auto& tx = o.port.tx(0);
        if (tx.space() >= n) return true;
        if (std::exchange(o.asked, true)) return false;
        o.filled = false;
        (void)tx.txsync();
        return tx.space() >= n;
    }

    // Slot i of rx into the next one of a pipe.
    static void send(outlet<Pipe>& o, nm::ring_base& rx, nm::index_t i, bool more, bool last) noexcept {
        nm::ring_base& tx = o.port.tx(0);
        const nm::slot s = nm::load_slot(rx.slot(i)), t = nm::load_slot(tx.slot());
        const auto len = static_cast<std::uint16_t>(std::min<std::uint32_t>(s.len, std::min(rx.buf_size(), tx.buf_size())));  // it may have changed
        const std::uint16_t flags = more ? nm::ns_morefrag : std::uint16_t{0};
        if (last && rx.buffers().base == tx.buffers().base && rx.buffers().valid(s.buf_idx) && tx.buffers().valid(t.buf_idx)) {
            nm::store_slot(tx.slot(), {s.buf_idx, len, static_cast<std::uint16_t>(flags | nm::ns_buf_changed), 0});
            nm::store_slot(rx.slot(i), {t.buf_idx, s.len, nm::ns_buf_changed, 0});
        } else {
            if (tx.buffers().valid(t.buf_idx)) nm::copy_frame(tx.buf(t), rx.buf(s), len);
            nm::store_slot(tx.slot(), {t.buf_idx, len, flags, 0});
        }
        tx.advance();
        o.filled = true;
    }

    // Slot i of rx into a queue.
    void keep(std::size_t q, nm::ring_base& rx, nm::index_t i, bool more, bool last) noexcept {
        const nm::slot s = nm::load_slot(rx.slot(i));
        const auto len = static_cast<std::uint16_t>(std::min<std::uint32_t>(s.len, std::min(rx.buf_size(), store_.size)));
        if (last && rx.buffers().base == store_.base && rx.buffers().valid(s.buf_idx)) {
            const std::uint32_t back = waiting_.push(q, {s.buf_idx, len, more});
            nm::store_slot(rx.slot(i), {back, s.len, nm::ns_buf_changed, 0});
        } else {
            const std::uint32_t mine = waiting_.spare();
            nm::copy_frame(store_.of(mine), rx.buf(s), len);
            (void)waiting_.push(q, {mine, len, more});
        }
    }

    // The front piece of a queue into its pipe; whether the frame goes on.
    [[nodiscard]] bool send_waiting(outlet<Pipe>& o, std::size_t q) noexcept {
        nm::ring_base& tx = o.port.tx(0);
        const overflow::piece p = waiting_.front(q);
        const nm::slot t = nm::load_slot(tx.slot());
        const std::uint16_t flags = p.more ? nm::ns_morefrag : std::uint16_t{0};
        if (store_.base == tx.buffers().base && tx.buffers().valid(t.buf_idx)) {
            nm::store_slot(tx.slot(), {p.buf, p.len, static_cast<std::uint16_t>(flags | nm::ns_buf_changed), 0});
            waiting_.pop(q, t.buf_idx);
        } else {
            if (tx.buffers().valid(t.buf_idx)) nm::copy_frame(tx.buf(t), store_.of(p.buf), p.len);
            nm::store_slot(tx.slot(), {t.buf_idx, p.len, flags, 0});
            waiting_.pop(q, p.buf);
        }
        tx.advance();
        o.filled = true;
        return p.more;
    }

    [[nodiscard]] static std::uint64_t length(nm::ring_base& rx, nm::index_t n) noexcept {
        std::uint64_t sum = 0;
        for (nm::index_t i = rx.head(); n != 0; --n, i = rx.next(i)) sum += nm::load_slot(rx.slot(i)).len;
        return sum;
    }
    [[nodiscard]] static std::uint32_t longest(nm::ring_base& rx, nm::index_t n) noexcept {
        std::uint32_t most = 0;
        for (nm::index_t i = rx.head(); n != 0; --n, i = rx.next(i)) most = std::max<std::uint32_t>(most, nm::load_slot(rx.slot(i)).len);
        return most;
    }

    std::deque<outlet<Pipe>>& outlets_;
    std::vector<group> groups_;
    nm::vale::connection_reader reader_;
    overflow waiting_;
    nm::buffer_space store_;
    std::uint64_t received_ = 0, bytes_ = 0, broken_ = 0;
    std::array<std::uint64_t, nm::vale::told_bys> told_{};
};

}  // namespace lb
