// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/idle.hpp"
#include "common/report.hpp"
#include "common/run.hpp"
#include "common/wall.hpp"
#include "common/write_all.hpp"
#include "conveyor.hpp"
#include "settings.hpp"

#include "nm/nm.hpp"

namespace nmreplay {

/// pcap with nanoseconds, in this machine's byte order, which the first word tells (pcap-savefile(5)).
struct pcap_words {
    static constexpr std::uint32_t magic = 0xa1b23c4d, most = 262144, ethernet = 1;
    static constexpr std::array<std::uint32_t, 6> file_header{magic, 2U | 4U << 16, 0, 0, most, ethernet};
    static_assert(std::endian::native == std::endian::little, "the version is two halves of a word");

    std::uint32_t seconds, nanoseconds, captured, length;
};

/// Frames on their way from the port to the file, as they will be there.
struct reel {
    static constexpr std::size_t fills_at = std::size_t{1} << 20;

    std::vector<std::uint8_t> bytes;

    reel() { bytes.reserve(fills_at + sizeof(pcap_words) + pcap_words::most); }  // so that adding never allocates
    [[nodiscard]] bool full() const noexcept { return bytes.size() >= fills_at; }
};

/// What the thread at the port came to.
struct recording {
    std::uint64_t packets = 0, bytes = 0;
    std::uint64_t cut = 0;      ///< longer than a capture may have them
    std::uint64_t unended = 0;  ///< frames of several slots of which the last did not come
    std::uint64_t waits = 0;    ///< times that the file was behind and frames were left in the ring
    std::uint64_t began = 0, ended = 0;
};

/// Takes what arrives and puts it on reels; never waits for the file. While there is no empty reel frames stay in the ring, and
/// what then finds no room there is counted by the port, or waits with the sender.
template <class P>
class recorder {
public:
    recorder(P& port, tool::run& run, const settings& s, conveyor<reel>& to, tool::tally& done, recording& out)
        : port_(port), run_(run), s_(s), to_(to), done_(done), out_(out) {
        if (port.num_rx_rings() == 0) throw tool::run_error(port.name() + " has no rx ring here; leave /T out of its name");
    }

    void operator()() {
        try {
            work();
        } catch (...) {
            end_film();
            throw;
        }
        end_film();
    }

private:
    static constexpr nm::index_t batch = 256, none = ~nm::index_t{0};

    [[nodiscard]] bool enough() const noexcept { return s_.count != 0 && out_.packets >= s_.count; }

    void work() {
        std::uint64_t last = nm::system_clock::now_ns();
        out_.began = out_.ended = last;
        while (!run_.stopped() && !enough()) {
            if (!now_ && !(now_ = to_.try_empty())) {
                ++out_.waits;
                tool::idle::nap();
                continue;
            }
            const bool first = out_.packets == 0;
            const bool came = take() != 0;
            if (came && first) out_.began = nm::system_clock::now_ns();
            if (now_->full()) hand_over();
            if (came) {
                last = 0;
                rest_.busy();
                done_.set(out_.packets, out_.bytes);
                if ((++rounds_ & 1023U) == 0) check();
                continue;
            }
            if (last == 0) last = out_.ended = nm::system_clock::now_ns();
            if (s_.exit_when_quiet && nm::system_clock::now_ns() - last > 1'000'000'000) break;
            if (!rest_.should_sleep()) continue;
            hand_over();  // who reads along gets it now
            if (any(nm::wait(port_, nm::events::rx, tool::nap_limit) & nm::events::error)) check();
        }
        if (last == 0) out_.ended = nm::system_clock::now_ns();
    }

    /// Frames that came to their end.
    nm::index_t take() {
        const std::uint64_t now = tool::wall_ns();
        nm::index_t frames = 0;
        for (nm::index_t i = 0; i < port_.num_rx_rings(); ++i)
            frames += nm::drain(port_.rx(i), batch, [this, now, i](nm::frame& f) noexcept {
                if (f.first()) {
                    if (now_->full() || enough()) return nm::verdict::stop;
                    forget();
                    begin(now, i);
                }
                if (ring_ != i) return nm::verdict::pass;
                add(f.bytes());
                if (f.last()) end();
                return nm::verdict::pass;
            });
        if (frames != 0) done_.event(port_.rx(0).space());
        return frames;
    }

    void begin(std::uint64_t now, nm::index_t ring) noexcept {
        ring_ = ring;
        head_ = {static_cast<std::uint32_t>(now / 1'000'000'000), static_cast<std::uint32_t>(now % 1'000'000'000), 0, 0};
        place_ = now_->bytes.size();
        append(&head_, sizeof head_);
    }
    void add(std::span<const std::uint8_t> piece) noexcept {
        const std::size_t keep = std::min<std::size_t>(piece.size(), pcap_words::most - head_.captured);
        append(piece.data(), keep);
        head_.captured += static_cast<std::uint32_t>(keep);
        head_.length += static_cast<std::uint32_t>(piece.size());
    }
    void end() noexcept {
        std::memcpy(now_->bytes.data() + place_, &head_, sizeof head_);
        ring_ = none;
        ++out_.packets;
        out_.bytes += head_.length;
        out_.cut += head_.captured != head_.length ? 1U : 0U;
    }
    // A frame of several slots whose end has not come while another ring's is there, or never comes.
    void forget() noexcept {
        if (ring_ == none) return;
        now_->bytes.resize(place_);
        ring_ = none;
        ++out_.unended;
    }
    void append(const void* data, std::size_t n) noexcept {
        const auto* p = static_cast<const std::uint8_t*>(data);
        now_->bytes.insert(now_->bytes.end(), p, p + n);
    }

    void hand_over() {
        if (now_ && !now_->bytes.empty() && ring_ == none) to_.put_full(std::move(now_));
    }
    void end_film() {
        forget();
        hand_over();
    }
    void check() {
        if (auto ok = port_.status(); !ok) throw tool::run_error(ok.error().text);
    }

    P& port_;
    tool::run& run_;
    const settings& s_;
    conveyor<reel>& to_;
    tool::tally& done_;
    recording& out_;
    tool::idle rest_;
    conveyor<reel>::box now_;
    pcap_words head_{};
    std::size_t place_ = 0;     ///< where the frame under way begins
    nm::index_t ring_ = none;   ///< that it comes from
    unsigned rounds_ = 0;
};

/// The thread at the file. A file that takes no more ends the run; what was taken before is written first, also after a signal.
class film_writer {
public:
    film_writer(conveyor<reel>& from, int fd, std::string name) : from_(from), fd_(fd), name_(std::move(name)) {
        tool::write_all(fd_, std::span(reinterpret_cast<const std::uint8_t*>(pcap_words::file_header.data()), sizeof pcap_words::file_header), name_);
    }
    void operator()() {
        while (auto r = from_.wait_full([] { return true; })) {
            tool::write_all(fd_, r->bytes, name_);
            r->bytes.clear();
            from_.put_empty(std::move(r));
        }
    }

private:
    conveyor<reel>& from_;
    int fd_;
    std::string name_;
};

}  // namespace nmreplay
