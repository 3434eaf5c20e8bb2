// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What every program on a switch shares, nm's and the peers' alike: who talks to whom, what a packet costs, the round.
//
// One thread does everything, as on a switch that forwards in the context of whoever sends. One packet is, on every side:
// 60 bytes written into a buffer of the sender's port; the sender's port given to the switch a batch at a time; its source
// looked up (or learnt), its destination looked up; brought to the receiver's port, by a copy into a buffer of that port
// or, where the work says so, without one; taken from the receiver's port a batch at a time; 60 bytes read; the buffer
// given back. The rate is that of packets read, and a packet that is lost or repeated ends the program with an error.

#include <numeric>

#include "sample.hpp"

namespace bench {

/// An Ethernet address in the low 48 bits, its first byte lowest: as it lies in memory.
using mac = std::uint64_t;

/// The same stations on every side: unicast, locally administered, else random.
inline mac station(std::uint64_t n) noexcept {
    n += 0x9e3779b97f4a7c15;
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
    n = (n ^ (n >> 27)) * 0x94d049bb133111eb;
    return (((n ^ (n >> 31)) & 0xffff'ffff'ffff) & ~mac{3}) | 2;
}

/// Frames of flows in turn, from a station behind the sending port to one behind a receiving port. There are o.stations
/// on either side, at least one behind each port, those of the receivers dealt out evenly; the order is a shuffled one.
class traffic {
    using header = std::array<std::uint8_t, 16>;

public:
    struct flow {
        mac from = 0, to = 0;
        unsigned port = 0;  ///< where `to` is, from 0
    };

    /// `accept` may refuse an address: another is then taken.
    template <class Accept>
    traffic(const options& o, Accept&& accept) : flows_(std::max(o.stations, o.ports)) {
        std::uint64_t n = 0;
        const auto next = [&] {
            while (!accept(station(n))) ++n;
            return station(n++);
        };
        for (unsigned i = 0; i < flows_.size(); ++i) flows_[i] = {next(), next(), i % o.ports};
        for (std::size_t i = flows_.size(); i > 1; --i) std::swap(flows_[i - 1], flows_[station(i) % i]);
        for (const flow& f : flows_) {
            header h{};
            std::memcpy(h.data(), &f.to, 6);
            std::memcpy(h.data() + 6, &f.from, 6);
            h[12] = 0x88, h[13] = 0xb5;  // an experimental type
            headers_.push_back(h);
        }
    }
    explicit traffic(const options& o) : traffic(o, [](mac) { return true; }) {}

    [[nodiscard]] const std::vector<flow>& flows() const noexcept { return flows_; }
    [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }

    [[nodiscard]] std::uint64_t sent_to(unsigned port) const noexcept {
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < flows_.size(); ++i)
            if (flows_[i].port == port) n += sent_of(i);
        return n;
    }

    /// What a batch is filled with: a copy of the position, which stays in registers, put back behind the batch.
    class batch {
    public:
        /// All 60 bytes of the next frame are written: addresses and type, a sequence number, a constant tail.
        [[gnu::always_inline]] void fill(void* data) noexcept {
            auto* p = static_cast<char*>(data);
            std::memcpy(p, at_->data(), 16);
            std::memcpy(p + 16, &sent_, 8);
            std::memcpy(p + 24, tail.data(), frame_bytes - 24);
            ++sent_;
            if (++at_ == end_) at_ = begin_;
        }

    private:
        friend traffic;
        const header *begin_, *end_, *at_;
        std::uint64_t sent_;
    };
    [[nodiscard]] [[gnu::always_inline]] batch next() const noexcept {
        batch b;
        b.begin_ = headers_.data();
        b.end_ = b.begin_ + headers_.size();
        b.at_ = b.begin_ + at_;
        b.sent_ = sent_;
        return b;
    }
    [[gnu::always_inline]] void sent(const batch& b) noexcept {
        at_ = static_cast<std::size_t>(b.at_ - b.begin_);
        sent_ = b.sent_;
    }

    /// What read_frame must have added up to over all that was sent.
    [[nodiscard]] std::uint64_t expected_sum() const noexcept {
        std::uint64_t sum = sent_ % 2 == 0 ? sent_ / 2 * (sent_ - 1) : (sent_ - 1) / 2 * sent_;
        sum += sent_ * std::accumulate(tail.begin(), tail.end(), std::uint64_t{0});
        for (std::size_t i = 0; i < headers_.size(); ++i) {
            std::array<std::uint64_t, 2> words{};
            std::memcpy(words.data(), headers_[i].data(), 16);
            sum += sent_of(i) * (words[0] + words[1]);
        }
        return sum;
    }

private:
    [[nodiscard]] std::uint64_t sent_of(std::size_t i) const noexcept {
        return sent_ / flows_.size() + (i < sent_ % flows_.size() ? 1 : 0);
    }

    static constexpr std::array<std::uint64_t, 5> tail{1, 2, 3, 4, 5};  // of the last word the frame has a half
    std::vector<flow> flows_;
    std::vector<header> headers_;
    std::size_t at_ = 0;
    std::uint64_t sent_ = 0;
};

/// callgrind collects from here to its return (--toggle-collect); nothing above it on the stack may have such a name.
template <class Step>
[[gnu::noinline]] std::uint64_t measured_round(Step& step) {
    return step();
}

/// A round: `send()` hands the switch one batch, until there were 64 packets, and four for each port: else it would be a
/// measure of looking at empty ports. Then `receive(port)` reads up to a batch, again while it gets whole ones. Both
/// return packets. Returns what was received.
template <class Send, class Receive>
[[gnu::always_inline]] inline std::uint64_t switch_round(const options& o, Send& send, Receive& receive) {
    const unsigned wanted = std::max(64U, 4 * o.ports);
    for (unsigned sent = 0; sent < wanted; sent += o.batch) send();
    std::uint64_t received = 0;
    for (unsigned port = 0; port < o.ports; ++port) {
        std::uint64_t n = 0;
        do received += n = receive(port);
        while (n == o.batch);
    }
    return received;
}

/// The whole sample of a work in which every packet must arrive. With --packets it is for callgrind, and not timed.
template <class Send, class Receive>
void run_switch(const options& o, const char* name, const traffic& t, const tally& received, Send&& send, Receive&& receive) {
    const auto round = [&]() noexcept { return switch_round(o, send, receive); };
    pin(o.cpu_b);
    measured rate;
    if (o.packets == 0) rate = timed_rate(o, 1, round);
    else
        while (received.packets < o.packets) measured_round(round);
    if (received.packets != t.sent() || received.sum != t.expected_sum())
        die(std::string(name) + ": " + std::to_string(t.sent()) + " packets went out, " + std::to_string(received.packets) +
            " came in, or not the same");
    report_one(o, name, rate, std::to_string(o.ports) + " ports, " + std::to_string(t.flows().size()) + " stations");
}

}  // namespace bench
