// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "capture.hpp"
#include "common/failure.hpp"
#include "conveyor.hpp"
#include "schedule.hpp"

namespace nmreplay {

/// Frames on their way from the file to the port, many at a time.
struct crate {
    static constexpr std::size_t fills_at = std::size_t{1} << 20;

    std::vector<std::uint8_t> bytes;
    std::vector<record> records;

    [[nodiscard]] bool full() const noexcept { return bytes.size() + sizeof(record) * records.size() >= fills_at; }
    void clear() noexcept { bytes.clear(), records.clear(); }
};

/// What was read, and what of it is not sent.
struct load {
    std::uint64_t read = 0, passes = 0;
    std::uint64_t lost = 0;       ///< by -L
    std::uint64_t too_long = 0;   ///< for the port
    std::uint64_t too_short = 0;  ///< for an Ethernet header
    std::uint64_t padded = 0;     ///< with zeros, for what the file has not of them
    std::string trouble;          ///< the file ended in the middle
};

/// The thread at the file: reads ahead of the one at the port, and says when each frame goes.
class loader {
public:
    /// `keep`: bytes that may be kept for further passes; `wanted`: whether to go on.
    loader(capture& from, conveyor<crate>& to, const schedule& times, std::uint64_t loops, std::size_t keep, std::uint32_t longest,
           std::function<bool()> wanted)
        : from_(from), to_(to), times_(times), loops_(loops), longest_(longest), wanted_(std::move(wanted)), kept_(loops == 1 ? 0 : keep) {}

    void operator()() {
        // The port need not wait for a crate to be full when a pipe has no more just now.
        from_.on_wait([this] {
            hand_over();
            if (load_.read != 0) to_.let_go();
            return wanted_();
        });
        try {
            while (pass()) {
                if (++load_.passes == loops_ || load_.read == load_.too_long + load_.too_short) break;  // another pass would send as little
                from_memory_ = kept_.rewind();
                if (!from_memory_) from_.rewind();
                times_.begin_pass();
            }
        } catch (const tool::run_error& e) {
            load_.trouble = e.what();  // told when all that was read is sent
        }
        hand_over();
        if (load_.read == 0 && load_.trouble.empty() && wanted_()) load_.trouble = "-f: the capture has no frames";
    }
    /// Once the thread is done.
    [[nodiscard]] const load& what() const noexcept { return load_; }

private:
    static constexpr std::uint32_t shortest = 14;

    /// False: it did not come to its end.
    [[nodiscard]] bool pass() {
        captured f;
        while (wanted_()) {
            const auto found = next(f);
            if (found == capture::found::end) return wanted_();
            if (found == capture::found::broken) {
                if (wanted_()) load_.trouble = from_.trouble();  // else the read was ended here
                return false;
            }
            if (!now_) now_ = to_.wait_empty(wanted_);
            if (!now_) return false;
            ++load_.read;
            take(f);
            if (now_->full()) hand_over();
        }
        return false;
    }

    [[nodiscard]] capture::found next(captured& f) {
        if (from_memory_) return kept_.next(f) ? capture::found::frame : capture::found::end;
        const auto found = from_.next(f);
        if (found == capture::found::frame) kept_.add(f);
        return found;
    }
    void take(const captured& f) {
        const auto when = times_.next(f.stamp_ns, f.length);
        const std::uint32_t have = std::min(f.have, f.length);
        if (!when) ++load_.lost;
        else if (f.length < shortest) ++load_.too_short;
        else if (f.length > longest_) ++load_.too_long;
        else {
            auto& b = now_->bytes;
            now_->records.push_back({*when, static_cast<std::uint32_t>(b.size()), f.length});
            b.insert(b.end(), f.data, f.data + have);
            if (have != f.length) {
                b.resize(b.size() + (f.length - have));
                ++load_.padded;
            }
        }
    }
    void hand_over() {
        if (now_ && !now_->records.empty()) to_.put_full(std::exchange(now_, nullptr));
    }

    capture& from_;
    conveyor<crate>& to_;
    schedule times_;
    std::uint64_t loops_;
    std::uint32_t longest_;
    std::function<bool()> wanted_;
    conveyor<crate>::box now_;
    load load_;
    kept_frames kept_;
    bool from_memory_ = false;
};

}  // namespace nmreplay
