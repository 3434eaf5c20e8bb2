// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The control queue (5.1.6.5): one command at a time, waited for.

#include <span>

#include "nm/ports/virtqueue_packed.hpp"
#include "nm/ports/virtqueue_split.hpp"

namespace nm::virtio {

template <bar_access Bar>
class control_queue {
public:
    control_queue() = default;
    control_queue(const queue_memory& m, dma_memory::piece buffer, const doorbell<Bar>& bell, bool is_packed,
                  std::chrono::microseconds patience) noexcept
        : rings_(m), ring_(m), bell_(bell), buffer_(buffer), patience_(patience), packed_(is_packed), usable_(true) {
        if (packed_) packed_ring::interrupt(m.driver.template as<std::uint16_t>(), false);
        else rings_.interrupt(bell_.event_idx, false);
    }

    /// 0, or why not. EOPNOTSUPP: there is no such queue. EIO: the device refuses. ETIMEDOUT: it does not answer, and is not asked again.
    [[nodiscard]] int send(ctrl::command c, std::span<const std::uint8_t> data) noexcept {
        if (!usable_) return EOPNOTSUPP;
        auto* at = buffer_.template as<std::uint8_t>();
        const auto bytes = static_cast<std::uint32_t>(2 + data.size());
        at[0] = c.group, at[1] = c.what;
        std::copy(data.begin(), data.end(), at + 2);
        std::uint8_t* const answer = at + answer_at;
        store_once(*answer, std::uint8_t{0xff});
        if (packed_) offer_packed(bytes);
        else offer_split(bytes);
        bell_.ring();
        if (!nic_wait(patience_, [this] { return packed_ ? ring_.returned(ring_.used_at) : rings_.used_index() == turn_; })) {
            usable_ = false;  // its answer may still come, and could be taken for that to a later one
            return ETIMEDOUT;
        }
        ring_.used_at = ring_.put_at;
        return load_once(*answer) == ctrl::ok ? 0 : EIO;
    }

private:
    static constexpr std::uint32_t answer_at = 256;

    void offer_split(std::uint32_t bytes) noexcept {
        rings_.table[0] = {buffer_.iova, bytes, desc::next, 1};
        rings_.table[1] = {buffer_.iova + answer_at, 1, desc::write, 0};
        rings_.offer(turn_++, 0);
        rings_.show(turn_);
    }
    void offer_packed(std::uint32_t bytes) noexcept {
        const std::uint32_t at = ring_.put_at;
        ring_.write(at + 1, buffer_.iova + answer_at, 1, 0, ring_.available(at + 1) | desc::write);
        ring_.write(at, buffer_.iova, bytes, 0, ring_.hidden(at));
        ring_.put_at += 2;
        ring_.show(ring_.put_at, desc::next);
    }

    split_rings rings_;
    packed_ring ring_;
    doorbell<Bar> bell_;
    dma_memory::piece buffer_;
    std::chrono::microseconds patience_{};
    std::uint16_t turn_ = 0;
    bool packed_ = false, usable_ = false;
};

}  // namespace nm::virtio
