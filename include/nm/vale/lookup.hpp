// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What decides where a frame goes. A switch takes its lookup as a template argument, so that it is inlined in the loop
// over a batch: mSwitch's modules (Honda, Huici, Lettieri, Rizzo: "mSwitch", SOSR 2015) without the pointer.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "nm/counters.hpp"
#include "nm/cpu.hpp"
#include "nm/slot.hpp"

namespace nm::vale {

/// A port's place on its switch: 0 to 253, given out in the order of attaching, used again after a detach.
using port_number = std::uint8_t;
inline constexpr index_t max_ports = 254;
inline constexpr index_t max_rings = 16;  ///< ring pairs per port

/// Some of a switch's ports. May be read by senders while one thread changes it.
class port_set {
public:
    [[nodiscard]] bool test(port_number p) const noexcept { return (word(p / 64U) >> (p % 64U) & 1U) != 0; }
    void add(port_number p) noexcept { store_once(words_[p / 64U], word(p / 64U) | std::uint64_t{1} << (p % 64U)); }
    void remove(port_number p) noexcept { store_once(words_[p / 64U], word(p / 64U) & ~(std::uint64_t{1} << (p % 64U))); }
    [[nodiscard]] std::uint64_t word(std::size_t i) const noexcept { return load_once(words_[i]); }
    static constexpr std::size_t words = 4;

private:
    std::array<std::uint64_t, words> words_{};
};

/// A frame as a lookup sees it.
struct packet {
    const std::uint8_t* data;  ///< the Ethernet header and what follows; in shared memory, which may change at any time
    std::uint16_t len;         ///< bytes there, 14 at least; the rest of a frame of several slots is not shown
    std::uint16_t flags;       ///< the first slot's (ns_no_learn)
    port_number from;
    std::uint8_t ring;         ///< the transmit ring it came by
};

/// Where a frame goes: to one port, to several, or nowhere. A frame never goes back to the port it came from.
class destination {
public:
    /// To the ring of the same index as the sender's, modulo the rings that the port has.
    [[nodiscard]] static constexpr destination to(port_number p) noexcept { return {p, same_ring, nullptr}; }
    [[nodiscard]] static constexpr destination to(port_number p, std::uint8_t ring) noexcept { return {p, ring, nullptr}; }
    /// To ring 0 of every other port.
    [[nodiscard]] static constexpr destination to_all() noexcept { return {flood_, 0, nullptr}; }
    /// To ring 0 of every other port in `ports`, which must stay where it is as long as the switch lives.
    [[nodiscard]] static constexpr destination to(const port_set& ports) noexcept { return {flood_, 0, &ports}; }
    [[nodiscard]] static constexpr destination drop(cause why = cause::policy) noexcept {
        return {static_cast<std::uint16_t>(drop_ + static_cast<unsigned>(why)), 0, nullptr};
    }

    [[nodiscard]] constexpr bool one() const noexcept { return what_ < max_ports; }
    [[nodiscard]] constexpr bool flood() const noexcept { return what_ == flood_; }
    [[nodiscard]] constexpr port_number port() const noexcept { return static_cast<port_number>(what_); }
    [[nodiscard]] constexpr std::uint16_t ring() const noexcept { return ring_; }
    [[nodiscard]] constexpr const port_set* ports() const noexcept { return set_; }
    /// A number that no port can have is a destination too: nobody.
    [[nodiscard]] constexpr cause why() const noexcept { return what_ >= drop_ ? static_cast<cause>(what_ - drop_) : cause::no_dst; }
    static constexpr std::uint16_t same_ring = 0xffff;

private:
    static constexpr std::uint16_t flood_ = 256, drop_ = 257;
    constexpr destination(std::uint16_t what, std::uint16_t ring, const port_set* set) noexcept
        : what_(what), ring_(ring), set_(set) {}
    std::uint16_t what_;
    std::uint16_t ring_;
    const port_set* set_;
};

/// A lookup that keeps something per transmit ring (a cache, a counter) names its type `lane`: default-constructible,
/// used by one thread at a time.
template <class L>
concept has_lane = requires { typename L::lane; };

struct no_lane {};
namespace detail {
template <class L>
struct lane_for {
    using type = no_lane;
};
template <has_lane L>
struct lane_for<L> {
    using type = typename L::lane;
};
}  // namespace detail
template <class L>
using lane_of = typename detail::lane_for<L>::type;

/// A lookup: called once per frame, `l(packet)` or `l(packet, lane)`, noexcept, from the threads of all senders at a time:
/// what it changes, it changes atomically. Optional: `begin(lane)` before each batch; `attached(port, name)` and
/// `detached(port)` when a port has come or gone (one thread at a time; at detached() no frame from that port is under
/// way any more).
template <class L>
concept vale_lookup = (has_lane<L> && std::is_nothrow_invocable_r_v<destination, L&, const packet&, lane_of<L>&>) ||
                      (!has_lane<L> && std::is_nothrow_invocable_r_v<destination, L&, const packet&>);

}  // namespace nm::vale
