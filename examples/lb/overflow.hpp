// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lb {

/// Frames that wait for slow consumers, in a fixed number of buffers that all queues share. Who needs room when there is
/// none takes it from the longest queue, which loses its oldest frames: so a consumer that stands still cannot keep
/// others from waiting for theirs. A frame is one or several pieces, and waits and goes as a whole.
class overflow {
public:
    struct piece {
        std::uint32_t buf = 0;
        std::uint16_t len = 0;
        bool more = false;  ///< the frame goes on in the next one
    };
    struct loss {
        std::uint64_t frames = 0, bytes = 0;
    };

    overflow(std::size_t queues, std::span<const std::uint32_t> buffers) : queues_(queues) {
        nodes_.reserve(buffers.size());
        for (const auto b : buffers) {
            nodes_.push_back({{b, 0, false}, free_});
            free_ = static_cast<std::uint32_t>(nodes_.size() - 1);
        }
        free_count_ = nodes_.size();
    }

    [[nodiscard]] bool empty(std::size_t q) const noexcept { return queues_[q].pieces == 0; }
    [[nodiscard]] std::uint64_t frames(std::size_t q) const noexcept { return queues_[q].frames; }
    /// What queue q had to give up.
    [[nodiscard]] const loss& lost(std::size_t q) const noexcept { return queues_[q].lost; }
    [[nodiscard]] std::size_t free() const noexcept { return free_count_; }
    [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }

    /// Room for a frame of so many pieces, at whatever cost to the longest queue. False: there are not so many buffers at all.
    [[nodiscard]] bool make_room(std::size_t pieces) noexcept {
        if (pieces > nodes_.size()) return false;
        while (free_count_ < pieces) drop_oldest(longest());
        return true;
    }
    /// The buffer that the next push() has to give: who copies a frame writes it there first.
    [[nodiscard]] std::uint32_t spare() const noexcept { return nodes_[free_].what.buf; }
    /// The next piece of queue q; there is room. Its buffer stays, and the spare one is the caller's in return.
    std::uint32_t push(std::size_t q, const piece& p) noexcept {
        queue& to = queues_[q];
        const std::uint32_t at = free_;
        node& n = nodes_[at];
        free_ = n.next;
        --free_count_;
        const std::uint32_t back = n.what.buf;
        n = {p, none};
        if (to.pieces++ == 0) to.first = at;
        else nodes_[to.last].next = at;
        to.last = at;
        to.frames += p.more ? 0U : 1U;
        return back;
    }

    [[nodiscard]] const piece& front(std::size_t q) const noexcept { return nodes_[queues_[q].first].what; }
    /// Pieces of the frame in front.
    [[nodiscard]] std::uint32_t front_pieces(std::size_t q) const noexcept {
        std::uint32_t n = 1;
        for (std::uint32_t i = queues_[q].first; nodes_[i].what.more && n < queues_[q].pieces; i = nodes_[i].next) ++n;
        return n;
    }
    /// The front piece goes on its way; `buf` is free in its place.
    void pop(std::size_t q, std::uint32_t buf) noexcept {
        queue& from = queues_[q];
        const std::uint32_t at = from.first;
        node& n = nodes_[at];
        from.frames -= n.what.more ? 0U : 1U;
        from.first = n.next;
        --from.pieces;
        n = {{buf, 0, false}, free_};
        free_ = at;
        ++free_count_;
    }

private:
    static constexpr std::uint32_t none = 0xffffffffU;
    struct node {
        piece what;
        std::uint32_t next = none;
    };
    struct queue {
        std::uint32_t first = none, last = none;
        std::uint64_t pieces = 0, frames = 0;
        loss lost;
    };

    [[nodiscard]] std::size_t longest() const noexcept {
        std::size_t most = 0;
        for (std::size_t q = 1; q < queues_.size(); ++q)
            if (queues_[q].pieces > queues_[most].pieces) most = q;
        return most;
    }
    void drop_oldest(std::size_t q) noexcept {
        queue& from = queues_[q];
        for (bool more = true; more && from.pieces != 0;) {
            const piece p = front(q);
            more = p.more;
            from.lost.bytes += p.len;
            pop(q, p.buf);
        }
        ++from.lost.frames;
    }

    std::vector<node> nodes_;
    std::vector<queue> queues_;
    std::uint32_t free_ = none;
    std::size_t free_count_ = 0;
};

}  // namespace lb
