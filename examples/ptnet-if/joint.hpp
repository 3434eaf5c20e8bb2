// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A port and the stack, joined. Where the port's frames have a virtio-net header, that header is the stack's own: frames pass as
// they are, up to 64 KiB in one, straight between the interface and the port's buffers. Elsewhere what the stack leaves to its
// card is done here.

#include <cstring>
#include <memory>
#include <poll.h>
#include <type_traits>
#include <utility>
#include <vector>

#include "books.hpp"
#include "stack.hpp"

#include "nm/offload.hpp"
#include "nm/ptnet/port.hpp"

namespace ptnet_if {

/// Whatever the port is.
class joint {
public:
    virtual ~joint() = default;
    /// Moves frames both ways; how many.
    [[nodiscard]] virtual nm::index_t round() = 0;
    /// Adds what it sleeps on.
    virtual void arm(std::vector<pollfd>& fds) = 0;
    /// Throws when one side can do no more.
    virtual void tend() = 0;
    /// Frames from the stack no longer; those that have begun go on.
    virtual void finish() = 0;
    [[nodiscard]] virtual bool idle() = 0;
    [[nodiscard]] virtual account look() = 0;
};

/// Whether a port that was opened with open_options::vnet_hdr has frames with a header. Others ignore that.
template <class P>
inline constexpr bool may_have_header = std::is_base_of_v<nm::ptnet_port, P> || requires(P& p) { p.set_header(12U); };

template <class P>
class joint_of final : public joint {
public:
    joint_of(P port, stack_interface stack, unsigned header, unsigned mtu)
        : port_(std::move(port)), stack_(std::move(stack)), header_(header), staged_(header == 0 ? largest_frame : 0), segment_(header == 0 ? mtu + 14 + 8 : 0) {
        auto& tx = port_.tx(0);
        const nm::index_t packet = slots_for(mtu + 14 + 8 + header_);
        most_slots_ = header_ != 0 ? slots_for(largest_frame + header_) : packet;
        if (most_slots_ + 2 > tx.num_slots() || most_slots_ >= nm::max_frags) {
            if (header_ != 0) stack_.no_large_frames();
            most_slots_ = packet;
            if (most_slots_ + 2 > tx.num_slots())
                throw tool::run_error(port_.name() + " has rings of " + std::to_string(tx.num_slots()) + " slots; a frame of this MTU needs " + std::to_string(most_slots_ + 2));
        }
        first_tx_ = port_.tx_stats();
        first_rx_ = port_.rx_stats();
    }

    nm::index_t round() override {
        nm::index_t moved = 0;
        for (nm::index_t i = 0; i < port_.num_rx_rings(); ++i) moved += to_stack(port_.rx(i));
        if (port_.num_tx_rings() != 0) moved += from_stack();
        return moved;
    }

    void arm(std::vector<pollfd>& fds) override {
        ++sleeps_;
        port_.arm(nm::events::rx | (waits_for_room_ ? nm::events::tx : nm::events::none) | nm::events::unsent);
        fds.push_back({port_.fd(), POLLIN, 0});
        if (!waits_for_room_ && !finishing_) fds.push_back({stack_.fd(), POLLIN, 0});
    }

    void tend() override {
        if (const auto ok = port_.status(); !ok && ok.error().code.value() != ENETDOWN) throw tool::run_error(ok.error().text);
        if constexpr (requires { port_.link_up(); }) {
            if (const bool up = port_.link_up(); up != std::exchange(carrier_, up)) stack_.set_carrier(up);
        }
    }
    void finish() override { finishing_ = true; }
    bool idle() override { return staged_bytes_ == 0 && (port_.num_tx_rings() == 0 || !port_.tx(0).pending()); }

    account look() override {
        account a;
        a.interface = stack_.name();
        a.port = port_.info();
        a.header = header_;
        a.from_stack = out_;
        a.to_stack = in_;
        a.tx = port_.tx_stats();
        a.rx = port_.rx_stats();
        a.tx.frames -= first_tx_.frames;
        a.rx.frames -= first_rx_.frames;
        for (nm::index_t i = 0; i < port_.num_tx_rings(); ++i) a.unsent += tool::pending_frames(port_.tx(i));
        for (nm::index_t i = 0; i < port_.num_rx_rings(); ++i) a.left += tool::left_frames(port_.rx(i));
        a.kernel = stack_.kernel_counters();
        a.sleeps = sleeps_;
        return a;
    }

private:
    static constexpr nm::index_t batch = 64;  // frames; also what is moved one way before the other has its turn

    using tx_ring = typename P::tx_ring_type;
    using rx_ring = typename P::rx_ring_type;

    [[nodiscard]] nm::index_t slots_for(std::size_t bytes) noexcept {
        const std::size_t size = port_.tx(0).buf_size();
        return static_cast<nm::index_t>((bytes + size - 1) / size);
    }
    [[nodiscard]] static nm::index_t room(tx_ring& tx, nm::index_t head) noexcept { return nm::ring_distance(head, tx.tail(), tx.num_slots()); }
    [[nodiscard]] static std::uint8_t* data(void* p) noexcept { return static_cast<std::uint8_t*>(p); }

    // ---- from the stack

    nm::index_t from_stack() {
        auto& tx = port_.tx(0);
        if (waits_for_room_ || tx.pending()) (void)tx.txsync(waits_for_room_ ? nm::sync_flags::force_reclaim : nm::sync_flags::none);
        nm::index_t frames = 0, head = tx.head();
        const nm::index_t before = head;
        waits_for_room_ = false;
        while (frames < batch && (staged_bytes_ != 0 || !finishing_)) {
            if (staged_bytes_ == 0 && room(tx, head) < most_slots_) {
                waits_for_room_ = true;
                break;
            }
            if (header_ != 0 ? !take(tx, head) : !stage()) break;
            if (staged_bytes_ != 0 && !put_staged(tx, head)) {
                waits_for_room_ = true;
                break;
            }
            ++frames;
        }
        if (head == before) return frames;
        tx.set_head(head);
        (void)tx.txsync(nm::sync_flags::none);
        return frames;
    }

    // One frame with its header, into the port's own buffers. There is room for the longest.
    [[nodiscard]] bool take(tx_ring& tx, nm::index_t& head) {
        const std::size_t size = tx.buf_size();
        iov_.clear();
        nm::index_t i = head;
        for (nm::index_t k = 0; k < most_slots_; ++k, i = tx.next(i)) {
            std::uint8_t* p = tx.buf(nm::load_slot(tx.slot(i)));
            if (k != 0) {
                iov_.push_back({p, size});
                continue;
            }
            std::memset(p + header_bytes, 0, header_ - header_bytes);
            iov_.push_back({p, header_bytes});
            iov_.push_back({p + header_, size - header_});
        }
        std::size_t bytes = stack_.read(iov_);
        if (bytes <= header_bytes) return false;
        bytes -= header_bytes;
        nm::vnet_hdr h{};
        std::memcpy(&h, iov_[0].iov_base, sizeof h);
        count(out_, bytes, h);
        ++out_.whole;
        put_slots(tx, head, bytes + header_);
        return true;
    }
    /// So many bytes lie in the buffers from head on.
    static void put_slots(tx_ring& tx, nm::index_t& head, std::size_t bytes) noexcept {
        for (; bytes != 0; head = tx.next(head)) {
            const auto n = std::min<std::size_t>(bytes, tx.buf_size());
            bytes -= n;
            nm::slot& shared = tx.slot(head);
            nm::store_slot(shared, {nm::load_slot(shared).buf_idx, static_cast<std::uint16_t>(n), bytes != 0 ? nm::ns_morefrag : std::uint16_t{0}, 0});
        }
    }
    static void count(passage& p, std::size_t bytes, const nm::vnet_hdr& h) noexcept {
        ++p.frames;
        p.bytes += bytes;
        p.large += h.gso_type != nm::vnet_gso_none ? 1U : 0U;
    }

    // One frame for a port without headers: here first.
    [[nodiscard]] bool stage() {
        if (staged_bytes_ != 0) return true;
        nm::vnet_hdr h{};
        const std::array<iovec, 2> to{{{&h, sizeof h}, {staged_.data(), staged_.size()}}};
        std::size_t bytes = stack_.read(to);
        if (bytes <= header_bytes) return false;
        bytes -= header_bytes;
        count(out_, bytes, h);
        const std::span<std::uint8_t> frame(staged_.data(), bytes);
        if (!nm::valid_vnet(h, bytes)) return out_.lost.drop(nm::cause::bad_hdr), true;
        if (h.gso_type != nm::vnet_gso_none) {
            cutter_ = nm::segmenter(frame, h);
            if (!cutter_.valid()) return out_.lost.drop(nm::cause::bad_hdr), true;
            if (cutter_.next_size() > segment_.size()) return out_.lost.drop(nm::cause::bad_len), true;
            ++out_.cut;
        } else {
            if (!nm::finish_checksum(frame, h)) return out_.lost.drop(nm::cause::bad_hdr), true;
            if (slots_for(bytes) > most_slots_) return out_.lost.drop(nm::cause::bad_len), true;
            out_.completed += (h.flags & nm::vnet_needs_csum) != 0 ? 1U : 0U;
            ++out_.whole;
            cutter_ = {};
        }
        staged_bytes_ = bytes;
        return true;
    }
    /// False when the ring is full before all of it has gone: the rest goes on later.
    [[nodiscard]] bool put_staged(tx_ring& tx, nm::index_t& head) {
        if (!cutter_.valid()) {
            if (room(tx, head) < slots_for(staged_bytes_)) return false;
            copy_out(tx, head, {staged_.data(), staged_bytes_});
            staged_bytes_ = 0;
            return true;
        }
        while (!cutter_.done()) {
            const std::size_t n = cutter_.next_size();
            if (room(tx, head) < slots_for(n)) return false;
            if (n <= tx.buf_size()) {
                (void)cutter_.next({tx.buf(nm::load_slot(tx.slot(head))), n});
                put_slots(tx, head, n);
            } else {
                (void)cutter_.next(segment_);
                copy_out(tx, head, {segment_.data(), n});
            }
            ++out_.segments;
        }
        staged_bytes_ = 0;
        return true;
    }
    static void copy_out(tx_ring& tx, nm::index_t& head, std::span<const std::uint8_t> bytes) noexcept {
        nm::index_t i = head;
        for (std::size_t at = 0; at < bytes.size(); at += tx.buf_size(), i = tx.next(i))
            std::memcpy(tx.buf(nm::load_slot(tx.slot(i))), bytes.data() + at, std::min<std::size_t>(tx.buf_size(), bytes.size() - at));
        put_slots(tx, head, bytes.size());
    }

    // ---- to the stack

    nm::index_t to_stack(rx_ring& rx) {
        (void)rx.rxsync();
        nm::index_t frames = 0, head = rx.head();
        const nm::index_t before = head, tail = rx.tail();
        while (head != tail && frames < batch) {
            const nm::index_t end = pass(rx, head, tail);
            if (end == head) break;  // the rest of the frame has not come yet
            head = end;
            ++frames;
        }
        if (head != before) {
            rx.set_head(head);
            (void)rx.rxsync();
        }
        return frames;
    }

    // The frame that begins at `at`: where it ends, or `at` when it does not end before `tail`.
    [[nodiscard]] nm::index_t pass(rx_ring& rx, nm::index_t at, nm::index_t tail) {
        iov_.clear();
        iov_.push_back({&zeros_, sizeof zeros_});
        std::size_t bytes = 0;
        bool more = true, too_many = false;
        nm::index_t i = at;
        for (; more; i = rx.next(i)) {
            if (i == tail) {
                // A ring that is full of one frame can never hold its end.
                if (nm::ring_distance(at, tail, rx.num_slots()) + 1 < rx.num_slots() && iov_.size() <= nm::max_frags) return at;
                break;
            }
            const nm::slot s = nm::load_slot(rx.slot(i));  // once: who filled it may still write to it
            more = (s.flags & nm::ns_morefrag) != 0;
            if (s.len == 0 && !more && bytes == 0) return rx.next(i);  // a hole
            if (s.len > rx.buf_size() || iov_.size() > nm::max_frags) too_many = true;
            else iov_.push_back({rx.buf(s), s.len});
            bytes += s.len;
        }
        ++in_.frames;
        if (more || too_many) return in_.lost.drop(nm::cause::bad_chain), i;
        if (const auto why = hand_over(bytes)) in_.lost.drop(*why);
        else ++in_.whole;
        return i;
    }
    [[nodiscard]] std::optional<nm::cause> hand_over(std::size_t bytes) {
        nm::vnet_hdr h{};
        if (header_ != 0) {
            if (iov_[1].iov_len < header_) return nm::cause::bad_hdr;
            std::memcpy(&h, iov_[1].iov_base, sizeof h);
            iov_[1] = {data(iov_[1].iov_base) + header_, iov_[1].iov_len - header_};
            bytes -= header_;
            if (!nm::valid_vnet(h, bytes)) return nm::cause::bad_hdr;
        }
        if (bytes < 14 || bytes > largest_frame) return nm::cause::bad_len;
        in_.bytes += bytes;
        in_.large += h.gso_type != nm::vnet_gso_none ? 1U : 0U;
        iov_[0] = {&h, sizeof h};
        return stack_.write(iov_);
    }

    P port_;
    stack_interface stack_;
    unsigned header_;
    nm::index_t most_slots_ = 0;  // of the longest frame that the stack hands over
    std::vector<std::uint8_t> staged_, segment_;
    std::size_t staged_bytes_ = 0;  // not 0: a frame that has not gone out to its end
    nm::segmenter cutter_;          // valid: it goes out in segments
    nm::vnet_hdr zeros_{};
    std::vector<iovec> iov_;
    bool waits_for_room_ = false, finishing_ = false, carrier_ = true;
    std::uint64_t sleeps_ = 0;
    passage out_, in_;
    nm::counters first_tx_, first_rx_;
};

}  // namespace ptnet_if
