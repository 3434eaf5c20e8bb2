// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nmreplay {

/// A frame of a capture; its data is good until the next one is asked for.
struct captured {
    std::uint64_t stamp_ns = 0;
    std::uint32_t length = 0;  ///< as it was on the wire
    std::uint32_t have = 0;    ///< of it are in the file
    const std::uint8_t* data = nullptr;
};

/// The frames of a capture that is replayed more than once, if they are few enough: reading a short file over and over would cost
/// more than sending it.
class kept_frames {
public:
    explicit kept_frames(std::size_t most_bytes) : most_(most_bytes) {}

    void add(const captured& f) {
        if (given_up_) return;
        if ((frames_.size() + 1) * sizeof(captured) + bytes_.size() + f.have > most_) {
            given_up_ = true;
            std::vector<captured>().swap(frames_);
            std::vector<std::uint8_t>().swap(bytes_);
            return;
        }
        frames_.push_back(f);
        bytes_.insert(bytes_.end(), f.data, f.data + f.have);
    }
    /// From the beginning, now that all are there. False: they are not.
    [[nodiscard]] bool rewind() noexcept {
        next_ = place_ = 0;
        return !given_up_;
    }
    [[nodiscard]] bool next(captured& f) noexcept {
        if (next_ == frames_.size()) return false;
        f = frames_[next_++];
        f.data = bytes_.data() + place_;
        place_ += f.have;
        return true;
    }

private:
    std::size_t most_;
    bool given_up_ = false;
    std::vector<captured> frames_;
    std::vector<std::uint8_t> bytes_;
    std::size_t next_ = 0, place_ = 0;
};

}  // namespace nmreplay
