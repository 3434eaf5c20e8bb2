// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstring>
#include <ctime>
#include <sys/prctl.h>

#include "common/deserted.hpp"
#include "common/flush.hpp"
#include "common/histogram.hpp"
#include "common/run.hpp"
#include "loader.hpp"
#include "settings.hpp"

namespace nmreplay {

/// What the thread at the port came to.
struct sending {
    tool::histogram lateness;  ///< from a frame's time to when the port had it
    std::uint64_t began = 0, ended = 0;
    std::uint64_t dry = 0;  ///< times that a frame was wanted and the file had none ready
};

/// Sends what the loader reads, each frame at its time, on the port's first tx ring: frames stay in order.
template <class P>
class sender {
public:
    using ring_type = typename P::tx_ring_type;

    sender(P& port, tool::run& run, const settings& s, conveyor<crate>& from, tool::tally& done, sending& out)
        : port_(port), ring_(ring_of(port)), run_(run), s_(s), from_(from), done_(done), out_(out), piece_(piece_of(ring_)),
          timed_(s.pace().what != bandwidth::kind::unlimited),
          limit_(s.seconds > 0 ? static_cast<std::uint64_t>(s.seconds * 1e9) : ~std::uint64_t{0}) {}

    /// The longest frame that the port takes.
    [[nodiscard]] static std::uint32_t longest(P& port) {
        const auto& r = ring_of(port);
        return piece_of(r) * std::min<std::uint32_t>(nm::max_frags, r.num_slots() - 2);
    }

    void operator()() {
        (void)::prctl(PR_SET_TIMERSLACK, 1UL);  // of this thread; the default lets the kernel be 50 us late
        first_crate();
        clock_.start();
        out_.began = nm::system_clock::now_ns();
        while (!over() && (at_ < records() || next_crate())) step();
        finish();
        out_.ended = nm::system_clock::now_ns();
        run_.stop();  // the loader need not read on
    }

private:
    [[nodiscard]] static ring_type& ring_of(P& port) {
        if (port.num_tx_rings() == 0) throw tool::run_error(port.name() + " has no tx ring here; leave /R out of its name");
        return port.tx(0);
    }
    /// What goes into one slot, whose length has 16 bits.
    [[nodiscard]] static std::uint32_t piece_of(const ring_type& r) noexcept { return std::min<std::uint32_t>(r.buf_size(), 65535); }
    [[nodiscard]] bool over() const noexcept { return run_.stopped() || (s_.count != 0 && sent_ >= s_.count); }
    /// While there is nothing to send.
    [[nodiscard]] bool wanted() const noexcept { return !run_.stopped() && clock_.now() < limit_; }
    [[nodiscard]] std::size_t records() const noexcept { return crate_ ? crate_->records.size() : 0; }

    /// One round: sends what is due, or waits for the next frame's time, or for room.
    void step() {
        const std::uint64_t now = clock_.now();
        if (now >= limit_) return run_.stop();
        std::uint32_t most = s_.burst.value_or(128);
        if (s_.count != 0) most = static_cast<std::uint32_t>(std::min<std::uint64_t>(most, s_.count - sent_));
        const auto waiting = std::span<const record>(crate_->records).subspan(at_);
        const due_frames due = count_due(waiting, now, most, piece_);
        if (due.frames == 0) return wait(waiting.front().when, now);
        const std::size_t before = at_;
        send(due.slots);
        if (at_ == before) {
            nobody_.stuck(port_);
            if (rest_.should_sleep() && any(nm::wait(port_, nm::events::tx, tool::nap_limit) & nm::events::error)) check();
            return;
        }
        if (timed_) {
            const std::uint64_t gone = clock_.now();
            for (std::size_t i = before; i < at_; ++i) out_.lateness.add(gone - crate_->records[i].when);
        }
        sent_ += at_ - before;
        nobody_.busy();
        rest_.busy();
        done_.set(ring_.stats().frames, ring_.stats().bytes);
        done_.event(ring_.space());
        if ((++rounds_ & 1023U) == 0) check();
    }

    void send(std::uint32_t slots) noexcept {
        (void)nm::generate(ring_, slots, [this](nm::frame& f) noexcept {
            const record& r = crate_->records[at_];
            const std::uint32_t n = std::min(piece_, r.length - part_);
            std::memcpy(f.data(), crate_->bytes.data() + r.offset + part_, n);
            f.resize(static_cast<std::uint16_t>(n));
            part_ += n;
            if (part_ < r.length) {
                f.meta().flags = nm::ns_morefrag;
            } else {
                part_ = 0;
                ++at_;
            }
        });
    }

    void wait(std::uint64_t when, std::uint64_t now) {
        const auto pause = timekeeper<nm::system_clock>::until(when, now);
        if (pause.how == timekeeper<nm::system_clock>::rest::spin) return nm::cpu_pause();
        (void)ring_.txsync();  // who is slow to take what was sent is to be asked again now and then
        if (pause.ns > 1'000'000) check();
        const timespec t{0, static_cast<long>(pause.ns)};
        ::nanosleep(&t, nullptr);
    }

    // Times begin when there is something to send, and much of it, so that the first frames are not late already.
    void first_crate() {
        clock_.start();
        from_.wait_stocked([this] { return wanted(); });
        crate_ = from_.wait_full([this] { return wanted(); });
    }
    [[nodiscard]] bool next_crate() {
        if (crate_) {
            crate_->clear();
            from_.put_empty(std::move(crate_));
        }
        at_ = 0;
        crate_ = from_.try_full();
        if (crate_ || from_.over()) return crate_ != nullptr;
        ++out_.dry;
        crate_ = from_.wait_full([this] { return wanted(); });
        return crate_ != nullptr;
    }

    // A frame that was begun is ended, if there is room for it soon, and what is queued gets to go out.
    void finish() {
        for (unsigned tries = 0; part_ != 0 && tries < 1000; ++tries) {
            const std::uint32_t left = crate_->records[at_].length - part_;
            send((left + piece_ - 1) / piece_);
            if (part_ != 0) tool::idle::nap();
        }
        tool::flush_tx(port_, 0, 1);
        done_.set(ring_.stats().frames, ring_.stats().bytes);
    }

    void check() {
        if (auto ok = port_.status(); !ok) throw tool::run_error(ok.error().text);
    }

    P& port_;
    ring_type& ring_;
    tool::run& run_;
    const settings& s_;
    conveyor<crate>& from_;
    tool::tally& done_;
    sending& out_;
    const std::uint32_t piece_;
    const bool timed_;
    const std::uint64_t limit_;  ///< --time: nanoseconds from the first frame on
    timekeeper<nm::system_clock> clock_;
    tool::desertion nobody_{tool::missing_end(s_.port, s_.peer)};
    tool::idle rest_;
    conveyor<crate>::box crate_;
    std::size_t at_ = 0;      ///< the next record of the crate
    std::uint32_t part_ = 0;  ///< bytes of it that are in slots already
    std::uint64_t sent_ = 0;
    unsigned rounds_ = 0;
};

}  // namespace nmreplay
