// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Numbered frames whose every byte is known, sent and looked at slot by slot, as a program in netmap's own words would; with a
// bounded number of them under way, so that whatever is lost was lost by somebody's mistake.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <ostream>
#include <sched.h>
#include <unistd.h>
#include <vector>

#include "nm/wait.hpp"

namespace nm::test {

/// What a frame begins with, after the addresses: ethertype 0x88b5, which is for experiments.
struct frame_mark {
    std::uint16_t stream;
    std::uint16_t len;
    std::uint32_t seq;
    std::uint32_t check;  // of these fields

    [[nodiscard]] std::uint32_t expected() const noexcept { return (seq * 2654435761U) ^ (std::uint32_t{len} << 16U) ^ stream ^ 0x5eed5eedU; }
};
inline constexpr std::size_t mark_at = 14;
inline constexpr std::size_t body_at = mark_at + sizeof(frame_mark);

/// Byte k of the body is byte k % 8 of this.
[[nodiscard]] inline std::uint64_t body_word(const frame_mark& m, std::size_t k) noexcept {
    return (std::uint64_t{m.seq} + m.stream + k / 8) * 0x9e3779b97f4a7c15U;
}

/// Writes all of frame `seq` of a stream.
inline void make_frame(std::vector<std::uint8_t>& frame, std::uint16_t stream, std::uint32_t seq, std::size_t len) {
    frame.resize(len);
    std::memcpy(frame.data(), "\x02\x6e\x6d\x00\x00\x02\x02\x6e\x6d\x00\x00\x01\x88\xb5", mark_at);
    frame_mark m{stream, static_cast<std::uint16_t>(len), seq, 0};
    m.check = m.expected();
    std::memcpy(frame.data() + mark_at, &m, sizeof m);
    for (std::size_t k = 0; body_at + k < len; k += 8) {
        const std::uint64_t w = body_word(m, k);
        std::memcpy(frame.data() + body_at + k, &w, std::min<std::size_t>(8, len - body_at - k));
    }
}

/// Looks at what arrives. Foreign frames (a kernel's neighbour discovery) are counted and otherwise left alone.
struct receiver {
    std::uint64_t frames = 0, bytes = 0, lost = 0, reordered = 0, corrupt = 0, foreign = 0;
    std::vector<std::uint32_t> next = std::vector<std::uint32_t>(64);  // of each stream
    std::uint16_t first_stream = 0;  // those below are left over from before
    std::vector<std::uint8_t> frame;

    [[nodiscard]] bool clean() const noexcept { return lost + reordered + corrupt + foreign == 0; }

    void look() {
        frame_mark m{};
        if (frame.size() < 60 || std::memcmp(frame.data() + 12, "\x88\xb5", 2) != 0) {
            ++foreign;
            return;
        }
        std::memcpy(&m, frame.data() + mark_at, sizeof m);
        if (m.check != m.expected() || m.len != frame.size() || m.stream >= next.size()) {
            ++corrupt;
            return;
        }
        for (std::size_t k = 0; body_at + k < frame.size(); k += 8) {
            const std::uint64_t w = body_word(m, k);
            if (std::memcmp(frame.data() + body_at + k, &w, std::min<std::size_t>(8, frame.size() - body_at - k)) != 0) {
                ++corrupt;
                return;
            }
        }
        if (m.stream < first_stream) return;
        ++frames;
        bytes += frame.size();
        if (m.seq < next[m.stream]) ++reordered;
        else {
            lost += m.seq - next[m.stream];
            next[m.stream] = m.seq + 1;
        }
    }
    /// Everything that a ring has, after its rxsync.
    template <class Ring>
    index_t take(Ring& ring) {
        index_t n = 0;
        for (; !ring.empty(); ++n) {
            const auto& s = ring.slot();
            const std::uint8_t* at = ring.buf(s);
            frame.insert(frame.end(), at, at + s.len);
            if ((s.flags & ns_morefrag) == 0) {
                if (!frame.empty()) look();
                frame.clear();
            }
            ring.advance();
        }
        return n;
    }
};

inline std::ostream& operator<<(std::ostream& o, const receiver& r) {
    return o << r.frames << " frames, " << r.bytes << " bytes, " << r.lost << " lost, " << r.reordered << " reordered, " << r.corrupt
             << " corrupt, " << r.foreign << " foreign";
}

/// A size for frame `seq`: each from 60 to `most` in turn, in an order that mixes small and large.
[[nodiscard]] inline std::size_t mixed_size(std::uint32_t seq, std::size_t most = 1514) noexcept {
    return 60 + (seq * 577U) % (most - 59);
}

/// Queues frame `seq` in as many slots as it takes; false when the ring does not have them. A txsync sends it.
template <class Ring>
bool queue_frame(Ring& ring, std::uint16_t stream, std::uint32_t seq, std::size_t len) {
    static thread_local std::vector<std::uint8_t> frame;
    const std::size_t room = ring.buf_size();
    if (ring.space() < (len + room - 1) / room) return false;
    make_frame(frame, stream, seq, len);
    for (std::size_t at = 0; at < len; at += room) {
        auto& s = ring.slot();
        const std::size_t n = std::min(room, len - at);
        std::memcpy(ring.buf(s), frame.data() + at, n);
        s.len = static_cast<std::uint16_t>(n);
        s.flags = at + n < len ? ns_morefrag : std::uint16_t{0};
        ring.advance();
    }
    return true;
}

/// One way: frames from a ring to wherever they arrive. Each tx ring sends a stream of its own.
template <class From, class To>
struct one_way {
    From& from;
    To& to;
    std::function<std::size_t(std::uint32_t)> size = [](std::uint32_t seq) { return mixed_size(seq); };
    std::uint64_t frames = 2000;  // to send
    std::uint64_t window = 64;    // under way at most
    std::uint64_t sent = 0;
    std::uint16_t first_stream = 0;  // of tx ring 0
    std::vector<std::uint32_t> next_seq = std::vector<std::uint32_t>(64);
    receiver got{};

    one_way(From& f, To& t) : from(f), to(t) {}

    /// So that what is left of an earlier one is told apart.
    void streams_from(std::uint16_t first) noexcept { first_stream = got.first_stream = first; }
    [[nodiscard]] bool done() const noexcept { return sent == frames && got.frames + got.corrupt + got.lost >= sent; }
    /// Some more; how much was moved.
    std::uint64_t step() {
        std::uint64_t moved = 0;
        for (index_t i = 0; i < from.num_tx_rings(); ++i) {
            auto& ring = from.tx(i);
            while (sent < frames && sent - std::min(sent, got.frames) < window &&
                   queue_frame(ring, static_cast<std::uint16_t>(first_stream + i), next_seq[i], size(next_seq[i]))) {
                ++next_seq[i];
                ++sent, ++moved;
            }
            (void)ring.txsync();
        }
        return moved + receive();
    }
    std::uint64_t receive() {
        std::uint64_t moved = 0;
        for (index_t i = 0; i < to.num_rx_rings(); ++i) {
            auto& ring = to.rx(i);
            (void)ring.rxsync();
            moved += got.take(ring);
        }
        return moved;
    }
};

enum class idle { spin, sleep };

struct exchange_result {
    double seconds = 0;
    std::uint64_t sleeps = 0, overslept = 0;  // overslept: the whole 100 ms, although frames were under way
    bool finished = false;
};

/// All ways at once until all frames have arrived, or nothing moves any more.
template <class... Ways>
exchange_result exchange_how(idle how, Ways&... way) {
    using namespace std::chrono_literals;
    constexpr double patience = 3;
    exchange_result r;
    const auto begin = std::chrono::steady_clock::now();
    const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
    double moved = 0;
    while (!(way.done() && ...)) {
        if ((way.step() + ...) != 0) {
            moved = passed();
            continue;
        }
        if (passed() > moved + patience) return r.seconds = passed(), r;
        if (how == idle::spin) {
            (void)::sched_yield();
            continue;
        }
        ++r.sleeps;
        bool found = false;
        for (const auto e : wait_any(100ms, watch{way.to, events::rx}...)) found |= any(e);
        if (!found) ++r.overslept;
    }
    // What comes late comes twice, or was not sent.
    for (int i = 0; i < 20; ++i) {
        (void)(way.step() + ...);
        (void)::usleep(500);
    }
    r.seconds = passed();
    r.finished = true;
    return r;
}
template <class X, class Y>
exchange_result exchange(X& there, Y& back, idle how = idle::spin) {
    return exchange_how(how, there, back);
}

}  // namespace nm::test
